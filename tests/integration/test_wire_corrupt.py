"""A wire that changes bits: before the hand-over the guest goes on at the source, after it no page

with a wrong bit is placed, and the right one comes again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import EXIT_FAILED, PageferryError, VerificationError
from pageferry.common.report.schema import Report
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.frames import FrameType
from pageferry.source_agent.report.build import make_report
from tests.support.inprocess import Said, listening, session_to
from tests.support.relay import relay

MIB = 2**20
Chunks = Callable[[int, bytes, Said], bool]


class Flip:
    """Turns one bit of the first chunk for which `when` says so."""

    def __init__(self, when: Chunks, said: Said) -> None:
        self._when = when
        self._said = said
        self.done = False

    def __call__(self, sent: int, chunk: bytes) -> bytes:
        if self.done or not self._when(sent, chunk, self._said):
            return chunk
        self.done = True
        at = len(chunk) // 2
        return chunk[:at] + bytes([chunk[at] ^ 0x10]) + chunk[at + 1 :]


def config(**options: Any) -> MigrationConfig:
    values = {
        "memory": 4 * MIB,
        "workload": "zipf:rate=10MB/s",
        "warmup": 0.02,
        "run_after": 0.05,
        "max_bandwidth": 20e6,
        "recover_timeout": 5.0,
    }
    return MigrationConfig(**values | options)


async def _moved(
    settings: MigrationConfig, when: Chunks, back: bool, there: str | None = None
) -> tuple[Report, PageferryError | None, Said]:
    """Migrate over a wire that changes a bit; end when `there` has been said at the destination."""
    async with listening() as (_agent, port, said), relay(port) as (middle, relay_port):
        flip = Flip(when, said)
        if back:
            middle.change_back = flip
        else:
            middle.change = flip
        session = session_to(relay_port, settings)
        error: PageferryError | None = None
        try:
            await session.run()
        except PageferryError as failure:
            error = failure
        assert flip.done
        if there is not None:
            await said.until(there)
        return make_report(session.record), error, said


def pages(sent: int, chunk: bytes, _said: Said) -> bool:
    """In the middle of the stream of pages."""
    return sent > 500_000 and len(chunk) > 1000


@pytest.mark.parametrize("granularity", ["page", "line"])
def test_before_the_hand_over(granularity: str) -> None:
    settings = config(strategy="pre-copy", granularity=granularity)
    report, error, _ = uvloop.run(_moved(settings, pages, False, "wrong checksum"))
    assert error is not None
    assert error.exit_code == EXIT_FAILED
    assert "changed on its way: wrong checksum" in str(error)
    assert report.guest.runs_at == "source"


def test_without_checksums_only_the_digest_knows() -> None:
    settings = config(strategy="stop-and-copy", workload="idle", checksum=False)
    report, error, _ = uvloop.run(_moved(settings, pages, False))
    assert isinstance(error, VerificationError)
    assert report.verified is False


def _commit(_sent: int, chunk: bytes, said: Said) -> bool:
    return b"snapshot" in chunk and any("preparing" in line for line in said)


def test_a_corrupted_commit_leaves_the_guest_at_the_source() -> None:
    """The source had given the guest away, asks, and is told that nobody has it."""
    settings = config(strategy="stop-and-copy")
    report, error, _ = uvloop.run(_moved(settings, _commit, False))
    assert error is not None
    assert error.exit_code == EXIT_FAILED
    assert report.guest.runs_at == "source"


def _runs_there(said: Said) -> bool:
    return any("the guest runs here" in line for line in said)


def _pushed(_sent: int, chunk: bytes, said: Said) -> bool:
    return len(chunk) > 20_000 and _runs_there(said)


def _demanded(_sent: int, chunk: bytes, said: Said) -> bool:
    alone = 16 + 8 + PAGE_SIZE + 8
    return len(chunk) == alone and chunk[0] == FrameType.PAGES and _runs_there(said)


def _request(_sent: int, chunk: bytes, said: Said) -> bool:
    return len(chunk) % 24 == 0 and chunk[0] == FrameType.REQUEST and _runs_there(said)


SLOW = {"prepage": "0", "max_bandwidth": 2e6}
CASES: dict[str, tuple[Chunks, bool, dict[str, Any]]] = {
    "a pushed page": (_pushed, False, {"memory": 16 * MIB, "max_bandwidth": 40e6}),
    "a demanded page": (_demanded, False, SLOW),
    "a request": (_request, True, SLOW),
}


@pytest.mark.parametrize("mechanism", ["kernel", "software"])
@pytest.mark.parametrize("case", CASES)
def test_while_pages_are_missing(case: str, mechanism: str) -> None:
    """Verified in the end: no wrong bit got to where the guest runs."""
    when, back, options = CASES[case]
    settings = config(strategy="post-copy", faults=mechanism, **options)
    report, error, said = uvloop.run(_moved(settings, when, back))
    assert error is None
    assert report.verified is True
    paused = [e for e in report.events if e.event == "postcopy-paused"]
    recovered = [e for e in report.events if e.event == "postcopy-recovered"]
    assert {e.agent for e in paused} == {e.agent for e in recovered} == {"source", "dest"}
    whys = [str(e.model_dump()) for e in paused]
    assert any("wrong checksum" in why for why in whys), (whys, said)
