"""A guest that is moved back and forth for long, over a wire that breaks, loses nothing.

And its hosts do not grow: what a move takes, it gives back.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from common.config import TransferConfig
from common.errors import PageferryError
from lab import host_messages as m
from lab.host_replay import replay
from tests.integration.hosts import Held, RunningHost, held, running_host
from tests.integration.relay import relay

FULL = os.environ.get("PAGEFERRY_TEST_FULL") == "1"
MOVES = 100 if FULL else 12
SETTLED = 20 if FULL else 6  # by then every strategy has loaded what it needs at both hosts
STRATEGIES = ("pre-copy", "three-path", "post-copy", "hybrid", "stop-and-copy")
MEMORY = 32 * 2**20
GROWTH = 10 * 2**20
LOAD = ("--memory", "32MiB", "--cache", "1MiB", "--workload", "zipf:rate=150MB/s,working-set=40%")
ATTEMPTS = 4


@dataclass
class Scissors:
    """Cuts what passes once, as it has been told to for this attempt."""

    offset: int | None = None  # bytes of all connections together
    word: bytes | None = None  # or in front of this message
    passed: int = 0
    cuts: int = 0

    def __call__(self, _sent: int, chunk: bytes) -> int | None:
        before, self.passed = self.passed, self.passed + len(chunk)
        if self.offset is not None and self.passed > self.offset:
            at, self.offset = self.offset - before, None
            self.cuts += 1
            return max(at, 0)
        if self.word is not None and (where := chunk.find(self.word)) >= 0:
            self.word = None
            self.cuts += 1
            return where
        return None

    def arm(self, *, offset: int | None = None, word: bytes | None = None) -> None:
        self.passed, self.offset, self.word = 0, offset, word


@dataclass
class Wire:
    """One direction between two hosts: there and back."""

    there: Scissors = field(default_factory=Scissors)
    back: Scissors = field(default_factory=Scissors)

    def arm(self, chance: random.Random, attempt: int) -> None:
        self.there.arm()
        self.back.arm()
        kind = chance.choice(["none", "pages", "pages", "commit", "answer"])
        if attempt == ATTEMPTS - 1 or kind == "none":
            return
        if kind == "pages":
            self.there.arm(offset=chance.randrange(500, MEMORY * 5 // 4))
        elif kind == "commit":
            self.there.arm(word=b"commit")
        else:
            self.back.arm(word=b"resumed")


async def send(source: RunningHost, dest: RunningHost, port: int, strategy: str) -> m.Moved | None:
    """None: it was refused, because the destination has not let go of an attempt before."""
    transfer = TransferConfig(
        strategy=strategy,  # type: ignore[arg-type]
        max_bandwidth=200e6,
        recover_timeout=10.0,
        low=0.02,
        high=0.5,
        max_rounds=3,
        postcopy_after="rounds=1",
    )
    order = m.Move(to=f"127.0.0.1:{port}", guest="g", transfer=transfer, run_after=0.02)
    moved: m.Moved = await source.ask(order)
    if moved.report.guest.runs_at == "dest":
        await dest.wait_for("g", "running")
        assert await source.guests() == {}
    else:
        assert moved.report.guest.runs_at == "source", moved.error
        assert (await source.guests())["g"] == "running"
        await dest.wait_for("g", None)
    return moved


async def back_and_forth(hosts: list[RunningHost]) -> tuple[list[list[Held]], int]:
    """The guest begins and ends at the first host."""
    chance = random.Random(20261124)
    wires = [Wire(), Wire()]  # to the second host, and to the first
    failed = 0
    figures = []
    async with (
        relay(hosts[1].port, wires[0].there, wires[0].back) as (_, to_second),
        relay(hosts[0].port, wires[1].there, wires[1].back) as (_, to_first),
    ):
        for number in range(MOVES):
            turn = number % 2
            source, dest = hosts[turn], hosts[1 - turn]
            for attempt in range(ATTEMPTS):
                wires[turn].arm(chance, attempt)
                strategy = STRATEGIES[number % len(STRATEGIES)]
                moved = await send(source, dest, (to_second, to_first)[turn], strategy)
                if moved.report.guest.runs_at == "dest":
                    break
                failed += 1
            else:
                pytest.fail(f"move {number + 1} failed {ATTEMPTS} times: {moved.error}")
            if number + 1 in (SETTLED, MOVES):
                figures.append([held(each.agent.process.pid) for each in hosts])
    cuts = sum(wire.there.cuts + wire.back.cuts for wire in wires)
    assert cuts >= MOVES // 3
    return figures, failed


@pytest.mark.timeout(900 if FULL else 120)
def test_back_and_forth(tmp_path: Path) -> None:
    async def run(hosts: list[RunningHost]) -> None:
        (early, late), failed = await back_and_forth(hosts)
        digested: m.Digested = await hosts[0].ask(m.Digest())
        again = await asyncio.to_thread(replay, digested.config, digested.steps)
        print(f"\n{MOVES} moves, {failed} attempts failed, {sum(digested.steps):,} steps")
        for before, after in zip(early, late, strict=True):
            print(before, after, sep="\n")
        assert digested.digest == again
        assert failed
        for before, after in zip(early, late, strict=True):
            assert after.fds == before.fds
            assert after.threads == before.threads
            assert after.rss < before.rss + GROWTH

    with (
        running_host(tmp_path, "a", "--boot", "--guest", "g", *LOAD) as first,
        running_host(tmp_path, "b") as second,
    ):
        uvloop.run(asyncio.wait_for(_when_booted(first, run, [first, second]), 850))


async def _when_booted(first: RunningHost, run: object, hosts: list[RunningHost]) -> None:
    await first.wait_for("g", "running")
    await run(hosts)  # type: ignore[operator]
