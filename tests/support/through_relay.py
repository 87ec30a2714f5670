"""One migration in this process whose connections all go through a relay."""

from __future__ import annotations

from pathlib import Path

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import PageferryError
from pageferry.common.report.schema import Report
from pageferry.common.wire.tls_credentials import client_tls, server_tls
from pageferry.source_agent.report.build import make_report
from tests.support.inprocess import Said, listening, session_to
from tests.support.relay import Cut, Relay, relay


def never(_sent: int, _chunk: bytes) -> None:
    """No cut."""


async def moved_through(
    config: MigrationConfig,
    cut: Cut = never,
    *,
    cut_back: Cut = never,
    deaf: bool = False,
    delay_s: float = 0.0,
    folder: Path | None = None,
    there: str | None = None,
) -> tuple[Report, PageferryError | None, Said, Relay]:
    """One migration through a relay. deaf: no connection is possible after the cut.

    delay_s: of every byte, in either direction. folder: of credentials for TLS.
    there: what the destination says in the end, which is waited for.
    """
    async with (
        listening(secure=server_tls(folder) if folder else None) as (_agent, port, said),
        relay(port, cut, cut_back, delay_s) as (middle, relay_port),
    ):
        middle.deaf_after_cut = deaf
        session = session_to(relay_port, config, client_tls(folder) if folder else None)
        error: PageferryError | None = None
        try:
            await session.run()
        except PageferryError as failure:
            error = failure
        if there is not None:
            await said.until(there)
        return make_report(session.record), error, said, middle
