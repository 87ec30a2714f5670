"""Sessions around a guest that ran before and goes on afterwards, in one process."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import uvloop

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import CancelledByUser, ConnectionBroken, PageferryError, PeerRefused
from pageferry.common.guest import control as c
from pageferry.common.guest.machine import Guest
from pageferry.common.timeline import Timeline
from pageferry.dest_agent.agent import DestAgent
from pageferry.source_agent.report.build import make_report
from pageferry.source_agent.resident_guest import Resident
from pageferry.source_agent.session.session import SourceSession
from tests.support.inprocess import Said, changed
from tests.support.known import known

CONFIG = MigrationConfig(
    memory=2**22, workload="zipf:rate=50MB/s", warmup=0.02, run_after=0.02, verify=False
)


class Shelf:
    """A registry that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.guests: dict[str, Guest] = {}
        self.over = threading.Event()

    def admit(self, name: str) -> None:
        self.told.append(f"admit {name}")

    def keep(self, name: str, guest: Guest) -> None:
        self.told.append(f"keep {name}")
        self.guests[name] = guest
        self.over.set()

    def dismiss(self, name: str) -> None:
        self.told.append(f"dismiss {name}")
        self.over.set()


async def sent(guest: Guest, shelf: Shelf, **options: Any) -> SourceSession:
    """A session that has ended; raises what it ended with."""
    agent = DestAgent(Said(), lambda _session, _event: None, registry=shelf)
    [(_, port)] = agent.listen("127.0.0.1", 0)
    serving = asyncio.create_task(agent.serve_forever())
    config = changed(CONFIG, options)
    session = SourceSession(
        config, ("127.0.0.1", port), Timeline("source"), Said(), Resident(guest, "g")
    )
    try:
        await session.run()
    finally:
        await asyncio.to_thread(shelf.over.wait, 20.0)  # a thread without a limit would hold all up
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    return session


def running() -> Guest:
    guest = Guest(CONFIG.guest, boot=True)
    guest.start()
    guest.resume()
    return guest


@pytest.mark.parametrize("strategy", ["stop-and-copy", "three-path", "post-copy"])
@pytest.mark.parametrize("faults", ["kernel", "software"])
def test_it_goes_on_there_and_is_gone_here(strategy: str, faults: str) -> None:
    guest, shelf = running(), Shelf()
    session = uvloop.run(sent(guest, shelf, strategy=strategy, faults=faults))
    assert shelf.told == ["admit g", "keep g"]
    assert guest.memory.size == 0
    kept = shelf.guests["g"]
    try:
        assert kept.state == "running"
        report = make_report(session.record)
        assert report.guest.runs_at == "dest"
        kept.pause()
        before, during = report.guest.steps_before, report.guest.steps_during
        assert sum(kept.steps()) > known(before) + known(during)
        kept.drain()
        fresh = Guest(CONFIG.guest, boot=True)
        fresh.start()
        fresh.run_until(kept.steps())
        fresh.drain()
        assert fresh.digest() == kept.digest()
        fresh.close()
    finally:
        kept.close()


def test_a_guest_that_is_to_stay_may_not_lack_pages_for_ever() -> None:
    guest, shelf = running(), Shelf()
    try:
        with pytest.raises(PeerRefused, match="would lack pages for ever"):
            uvloop.run(sent(guest, shelf, strategy="lazy-copy"))
        assert shelf.told == ["admit g", "dismiss g"]
        assert guest.state == "running"
    finally:
        guest.close()


def slowed_by(guest: Guest) -> set[tuple[int, int]]:
    """Each vCPU's throttle and its dirty limit; (0, 0): it is slowed down by nothing."""
    return {(int(m.ctl[c.THROTTLE]), int(m.ctl[c.DIRTY_NS])) for m in guest.machines}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"inject": ("source/after-round-1:cut",)}, ConnectionBroken),
        ({"timeout": 0.05, "max_bandwidth": 1e6}, CancelledByUser),
    ],
)
def test_a_guest_that_stays_is_slowed_down_no_longer(
    options: dict[str, Any], error: type[PageferryError]
) -> None:
    guest, shelf = running(), Shelf()
    guest.throttle(0.5)  # as if auto-converge had
    try:
        with pytest.raises(error):
            uvloop.run(sent(guest, shelf, strategy="pre-copy", dirty_limit=1e6, **options))
        assert guest.state == "running"
        assert slowed_by(guest) == {(0, 0)}
    finally:
        guest.close()


def test_a_guest_that_has_moved_is_slowed_down_no_longer() -> None:
    guest, shelf = running(), Shelf()
    guest.throttle(0.5)
    uvloop.run(sent(guest, shelf, strategy="pre-copy", dirty_limit=1e6))
    try:
        assert slowed_by(shelf.guests["g"]) == {(0, 0)}
    finally:
        shelf.guests["g"].close()
