"""Strangers at a destination that receives a migration: each is let go, and the guest arrives."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from pageferry.commands.certs import certs
from pageferry.common.config.model import MigrationConfig
from pageferry.common.wire import listener
from pageferry.common.wire.tls_credentials import client_tls, server_tls
from pageferry.source_agent.report.build import make_report
from tests.support.harness import Agent, agent, destination, migrate
from tests.support.inprocess import listening, session_to
from tests.support.openers import OPENERS, SILENT, Opener, connections, flood, knock, peak_bytes
from tests.support.tiers import FULL, full_only

CONNECTIONS = 10_000 if FULL else 120
MOST_BYTES = 50 * 2**20
CONFIG = MigrationConfig(
    memory=2**23, workload="zipf:rate=1MB/s", max_bandwidth=4e6, warmup=0.05, run_after=0.05
)


async def _each(folder: Path | None) -> None:
    secure = server_tls(folder) if folder else None
    async with listening(secure=secure) as (running, port, said):
        session = session_to(port, CONFIG, client_tls(folder) if folder else None)
        task = asyncio.create_task(session.run())
        await said.until("preparing")
        for opener in OPENERS.values():
            running._complain.flush()  # each in a window of its own
            before = len(said)
            await knock(port, opener)
            expected = opener.said
            if folder and opener.data and opener is not OPENERS["TLS"]:
                expected = f"{expected}|speaks no TLS"
            elif folder and opener.data:
                expected = "no TLS with it"
            fresh = "\n".join(said[before:])
            assert re.search(expected, fresh), (opener, fresh)
        before = len(said)
        await asyncio.gather(*(knock(port, opener) for opener in SILENT.values()))
        assert sum("did not say hello" in line for line in said[before:]) == (1 if folder else 3)
        await task
        assert make_report(session.record).verified is True
        await said.until(": done")
        assert not running._listener._strangers
        assert not running.sessions


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_each_gets_a_line_and_is_let_go(
    tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE_S", 1.0)
    if tls:
        certs(tmp_path)
    uvloop.run(_each(tmp_path / "dest" if tls else None))


@contextmanager
def receiving(*options: str, rate: str) -> Iterator[tuple[Agent, Agent, int]]:
    """A destination whose migration has begun, its source, and its port."""
    guest = ("--memory", "64MiB", "--workload", "zipf:rate=1MB/s", "--strategy", "post-copy")
    times = ("--warmup", "50ms", "--run-after", "50ms", "--max-bandwidth", rate)
    with destination(*options) as (dest, port):
        to = ("source", "--to", f"127.0.0.1:{port}", "--json", "-", "--quiet")
        with agent(*to, *options, *guest, *times) as source:
            source.wait_status(
                lambda key, value: key == "status" and "its memory follows" in value["phase"]
            )
            yield dest, source, port


def _arrives(dest: Agent, source: Agent) -> int:
    """The peak of the destination's memory, when the guest has arrived and was verified."""
    ended = source.end()
    assert ended.exit_code == 0, ended.stderr
    assert '"verified": true' in ended.stdout
    return peak_bytes(dest.process.pid)


@pytest.fixture(scope="module")
def compiled() -> None:
    """A process that had to compile kernels would seem to need a hundred megabytes more."""
    run = migrate("--memory", "4MiB", "--workload", "zipf", "--strategy", "post-copy")
    assert run.exit_code == 0, run.stderr


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    "tls", [pytest.param(False, id="plain"), pytest.param(True, id="tls", marks=full_only)]
)
def test_a_flood_of_connections_takes_little_memory(
    tls: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The migration completes and verifies, and memory stays within 50 MB of what it needs."""
    options: tuple[str, ...] = ()
    if tls:
        certs(tmp_path)
        options = ("--tls", str(tmp_path / "dest"))
    with receiving(*options, rate="50MB/s") as (dest, source, _):
        needed = _arrives(dest, source)
    strangers: list[Opener] = [*OPENERS.values()]
    with receiving(*options, rate="1MB/s" if FULL else "8MB/s") as (dest, source, port):
        uvloop.run(flood(port, CONNECTIONS, strangers), debug=False)
        on_its_way = source.process.poll() is None
        peak = _arrives(dest, source)
        left = connections(dest.process.pid)
        dest.process.terminate()
        said = dest.end().stderr
    with capsys.disabled() if FULL else contextlib.nullcontext():
        print(
            f"\n{CONNECTIONS:,} connections, {'TLS' if tls else 'plain'}: peak"
            f" {peak / 2**20:.0f} MiB, {needed / 2**20:.0f} MiB without them;"
            f" migration {'was still' if on_its_way else 'no longer'} on its way"
            f" when the last had been let go; {len(said.splitlines())} lines said"
        )
    assert peak - needed <= MOST_BYTES
    assert left <= 4  # it listens; the loop's own
    assert "Traceback" not in said
    lines = said.splitlines()
    counted = sum(int(n.replace(",", "")) for n in re.findall(r"and ([\d,]+) more like it", said))
    assert counted + len(lines) >= CONNECTIONS
    assert len(lines) < CONNECTIONS // 2 + 50
