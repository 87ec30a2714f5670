"""A guest that is moved back and forth for long, over a wire that breaks, loses nothing.

And its hosts do not grow: what a move takes, it gives back.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from pageferry.common.config.transfer import TransferConfig
from pageferry.host import messages as m
from pageferry.host.replay import replay_from_boot
from tests.support.hosts import Held, RunningHost, held, running_host
from tests.support.relay import relay
from tests.support.tiers import FULL

MOVES = 100 if FULL else 12
SETTLED = 20 if FULL else 10  # by then every strategy has left and has reached either host
STRATEGIES = ("pre-copy", "three-path", "post-copy", "hybrid", "stop-and-copy")
MEMORY = 32 * 2**20
LOAD = ("--memory", "32MiB", "--cache", "1MiB", "--workload", "zipf:rate=40MB/s,working-set=40%")
GROWTH = 6 * 2**20  # less than a fifth of the guest: a copy that is kept is more
ATTEMPTS = 4
RECOVER_S = 3.0


@dataclass
class Scissors:
    """Cuts what passes once, where it has been told to for this attempt."""

    offset: int | None = None  # bytes of all connections together
    word: bytes | None = None  # or in front of this message
    passed: int = 0
    cuts: int = 0

    def __call__(self, _sent: int, chunk: bytes) -> int | None:
        before, self.passed = self.passed, self.passed + len(chunk)
        at = None
        if self.offset is not None and self.passed > self.offset:
            at, self.offset = max(self.offset - before, 0), None
        elif self.word is not None and self.word in chunk:
            at, self.word = chunk.find(self.word), None
        self.cuts += at is not None
        return at

    def arm(self, *, offset: int | None = None, word: bytes | None = None) -> None:
        self.passed, self.offset, self.word = 0, offset, word


@dataclass
class Wire:
    """To a host and back."""

    there: Scissors = field(default_factory=Scissors)
    back: Scissors = field(default_factory=Scissors)

    def arm(self, chance: random.Random, *, whole: bool) -> None:
        """Decide where it will break: in the pages (or after them), about the commit, nowhere."""
        self.there.arm()
        self.back.arm()
        where = "nowhere" if whole else chance.choice(["nowhere", "pages", "commit", "answer"])
        if where == "pages":
            self.there.arm(offset=chance.randrange(500, MEMORY * 5 // 4))
        elif where == "commit":
            self.there.arm(word=b"commit")
        elif where == "answer":
            self.back.arm(word=b"resumed")


@dataclass
class Journey:
    """One guest between two hosts; it begins, and ends, at the first."""

    hosts: list[RunningHost]
    seen: Counter[str] = field(default_factory=Counter)
    figures: list[list[Held]] = field(default_factory=list)

    async def go(self) -> None:
        chance = random.Random(20261124)  # noqa: S311
        first, second = self.hosts
        wires = [Wire(), Wire()]
        async with (
            relay(second.port, wires[0].there, wires[0].back) as (_, to_second),
            relay(first.port, wires[1].there, wires[1].back) as (_, to_first),
        ):
            for number in range(MOVES):
                turn = number % 2
                for attempt in range(ATTEMPTS):
                    wires[turn].arm(chance, whole=attempt == ATTEMPTS - 1)
                    strategy = STRATEGIES[number % len(STRATEGIES)]
                    if await self.attempt(turn, (to_second, to_first)[turn], strategy):
                        break
                else:
                    pytest.fail(f"move {number + 1} failed {ATTEMPTS} times")
                if number + 1 in (SETTLED, MOVES):
                    await self.measure()
        self.seen["cuts"] = sum(wire.there.cuts + wire.back.cuts for wire in wires)

    async def attempt(self, turn: int, port: int, strategy: str) -> bool:
        """Whether it moved; both hosts then agree where it is, and it runs there."""
        source, dest = self.hosts[turn], self.hosts[1 - turn]
        transfer = TransferConfig(
            strategy=strategy,
            max_bandwidth=200e6,
            recover_timeout=RECOVER_S,
            low=0.02,
            max_rounds=3,
            postcopy_after="rounds=1",
        )
        order = m.MoveGuest(to=f"127.0.0.1:{port}", guest="g", transfer=transfer, run_after=0.02)
        moved: m.Moved = await source.ask(order)
        where = moved.report.guest.runs_at
        self.seen[where] += 1
        names = {event.event for event in moved.report.events}
        self.seen.update(names & {"postcopy-recovered", "inquire"})
        if where == "dest":
            await dest.wait_for("g", "running")
            assert await source.guests() == {}
            return True
        assert where == "source", moved.error
        await dest.wait_for("g", None)
        assert await source.guests() == {"g": "running"}
        return False

    async def measure(self) -> None:
        for host in self.hosts:
            await host.quiet()
        self.figures.append([await held(host.agent.process.pid) for host in self.hosts])


@pytest.mark.timeout(900 if FULL else 120)
def test_a_guest_survives_many_moves_back_and_forth(tmp_path: Path) -> None:
    async def run() -> None:
        journey = Journey([first, second])
        await first.wait_for("g", "running")
        await journey.go()
        print(f"\n{MOVES} moves: {dict(journey.seen)}", *journey.figures, sep="\n")
        digested: m.Digested = await first.ask(m.Digest())
        replayed = await asyncio.to_thread(replay_from_boot, digested.config, digested.steps)
        assert digested.digest == replayed
        assert digested.check is None
        assert journey.seen["dest"] == MOVES
        for event in ("source", "inquire", "postcopy-recovered"):  # that there was something to it
            assert journey.seen[event] > 0
        for early, late in zip(*journey.figures, strict=True):
            assert (late.fds, late.threads) == (early.fds, early.threads)
            assert late.rss < early.rss + GROWTH
            assert late.size < early.size + 4 * MEMORY

    with (
        running_host(tmp_path, "a", "--boot", "--guest", "g", "--quiet", *LOAD) as first,
        running_host(tmp_path, "b", "--quiet") as second,
    ):
        uvloop.run(run())
