"""Every connection of a session is bound to it: who has not its secret changes nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import PeerRefused
from pageferry.common.wire import messages
from pageferry.common.wire.connecting import connect
from pageferry.source_agent.report.build import make_report
from pageferry.source_agent.session.session import SourceSession
from tests.support.harness import pageferry
from tests.support.inprocess import listening, session_to

CONFIG = MigrationConfig(
    memory=2**22,
    workload="zipf",
    strategy="post-copy",
    max_bandwidth=8e6,
    warmup=0.3,
    run_after=0.05,
    faults="software",
)


@asynccontextmanager
async def under_way(port: int) -> AsyncIterator[SourceSession]:
    """A migration, and the same awaited and verified in the end."""
    session = session_to(port, CONFIG)
    task = asyncio.create_task(session.run())
    try:
        yield session
        await task
        assert make_report(session.record).verified is True
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


INTRUDERS: list[tuple[str, type[messages.Message]]] = [
    ("bulk", messages.Welcome),
    ("urgent", messages.Welcome),
    ("recover", messages.Welcome),
    ("query", messages.CommitOutcome),
]


async def _intrude(moment: str) -> None:
    async with listening() as (_agent, port, said), under_way(port) as session:
        await said.until(moment)
        for role, wanted in INTRUDERS:
            hello: Any = messages.Hello.model_validate(
                {"role": role, "session": session.record.session, "token": "00" * 32}
            )
            connection = await connect("127.0.0.1", port, hello)
            with pytest.raises(PeerRefused, match=f"a {role} connection that is not of session"):
                await connection.expect(wanted)
            connection.close()
        refused = [line for line in said if "was refused" in line]
        assert len(refused) == len(INTRUDERS)
        assert not any("asks what became of it" in line for line in said)
    assert not any(session._context.connections.hello("query").token in line for line in said)


@pytest.mark.parametrize("moment", ["preparing", "the guest runs here"])
def test_an_intruder_changes_nothing(moment: str) -> None:
    """A query that was believed before the commit would have ended the migration."""
    uvloop.run(_intrude(moment))


async def _ask_later() -> None:
    async with listening() as (_agent, port, said):
        async with under_way(port) as session:
            pass
        await said.until(": done")
        for token, answer in (
            ("00" * 32, None),
            (session._context.connections.hello("query").token, "running"),
        ):
            hello = messages.Hello(role="query", session=session.record.session, token=token)
            connection = await connect("127.0.0.1", port, hello)
            if answer is None:
                with pytest.raises(PeerRefused):
                    await connection.expect(messages.CommitOutcome)
            else:
                assert (await connection.expect(messages.CommitOutcome)).answer == answer
            connection.close()


def test_a_session_that_is_only_remembered_is_bound_too() -> None:
    uvloop.run(_ask_later())


def test_the_secret_is_written_nowhere(tmp_path: Path) -> None:
    run = pageferry(
        *("migrate", "--memory", "4MiB", "--warmup", "0s", "--run-after", "0s"),
        *("--max-bandwidth", "unlimited", "--json", "-", "--log-dir", str(tmp_path)),
    )
    assert run.exit_code == 0, run.stderr
    texts = [run.stdout, run.stderr, *(path.read_text() for path in tmp_path.iterdir())]
    assert len(texts) == 4
    for text in texts:
        assert "token" not in text
        assert not re.search(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", text)
