"""The cells of the matrix of random faults, and what a seed draws for a case of one.

A cell is a phase of a strategy, a fault, and whom it hits. A case is a cell and a seed, which draws
the moment within the phase, how long the fault lasts, and the guest. A post-copy strategy's stop
takes some milliseconds, too short to be aimed at from outside: what can befall it there befalls the
hand-over, and `test_faults_matrix.py` has its steps one by one.
"""

from __future__ import annotations

import math
import random
import signal
from dataclasses import dataclass
from typing import Any, Final, Literal

from pageferry.common.config.model import MigrationConfig

SourceOrDest = Literal["source", "dest"]
Hit = Literal["source", "dest", "wire"]
Phase = Literal["set-up", "rounds", "stop", "hand-over", "post-copy", "recovery"]
Fault = Literal["kill", "stop", "ask", "cut", "silence"]

COPYING: Final = ("stop-and-copy", "pre-copy", "three-path")
POSTCOPY: Final = ("post-copy", "lazy-copy", "hybrid")
HAVE: Final[dict[Phase, tuple[str, ...]]] = {
    "set-up": (*COPYING, *POSTCOPY),
    "rounds": ("pre-copy", "three-path", "hybrid"),
    "stop": COPYING,
    "hand-over": (*COPYING, *POSTCOPY),
    "post-copy": POSTCOPY,
    "recovery": POSTCOPY,
}
FAULTS: Final[tuple[tuple[Fault, Hit], ...]] = (
    ("kill", "source"),
    ("kill", "dest"),
    ("stop", "source"),  # SIGSTOP, and SIGCONT after a while
    ("stop", "dest"),
    ("ask", "source"),  # HUP or TERM, once or more
    ("ask", "dest"),
    ("cut", "wire"),  # every connection is reset
    ("silence", "wire"),  # nothing passes for a while, connections stay
)

STALL_S: Final = 2.0  # silence that either end takes for death
RECOVER_S: Final = 4.0
LONG_RECOVER_S: Final = 15.0  # where the way out of a recovery must be sooner than its limit
MIB: Final = 2**20
RELAYED_BPS: Final = 150e6  # what goes through a relay, about
# Where a long silence comes on top of an outage: surely within the limit, or surely beyond it.
IN_OUTAGE_S: Final = (1.2, 7.5)
SHORT_S: Final = (0.05, 0.8)  # what nobody may take for death
LONG_S: Final = (2.7, 4.2)  # what each does, and is over before a recovery is
# Thresholds are such that each goes the same way every time.
STRATEGIES: Final[dict[str, dict[str, Any]]] = {
    "stop-and-copy": {},
    "pre-copy": {"downtime_limit": 10.0},  # one round of everything, then it fits
    "three-path": {"low": 0.0, "high": 0.001, "path3": "stop-and-copy"},
    "post-copy": {},
    "lazy-copy": {"run_after": 0.4},
    "hybrid": {"postcopy_after": "rounds=1", "downtime_limit": 1e-6},  # it never fits
}


@dataclass(frozen=True)
class Cell:
    """Which fault hits whom in which phase of which strategy."""

    phase: Phase
    strategy: str
    fault: Fault
    hit: Hit

    def __str__(self) -> str:
        return f"{self.phase}/{self.strategy}/{self.fault}/{self.hit}"

    @property
    def through_wire(self) -> bool:
        """Whether connections go through a relay: it cuts them, and it makes a phase longer."""
        return self.hit == "wire" or self.phase in ("hand-over", "recovery")


CELLS: Final = tuple(
    Cell(phase, strategy, fault, hit)
    for phase, strategies in HAVE.items()
    for strategy in strategies
    for fault, hit in FAULTS
)
BY_NAME: Final = {str(cell): cell for cell in CELLS}


@dataclass(frozen=True)
class Outage:
    """What leads to a recovery. after_s: from the switch to the cut.

    refused_s: how long new connections are turned away; delay_s: each way, of those that are not.
    """

    after_s: float
    refused_s: float
    delay_s: float


@dataclass(frozen=True)
class Case:
    """A cell and what was drawn for it. Times in seconds.

    at_s: from when the phase was seen to begin, or (by_commit) from when the destination had the
    commit, in the middle of a hand-over. lasts_s: how long a process is stopped, or nothing passes.
    signals: one after the other. delay_s: of the relay, each way, before the fault.
    """

    cell: Cell
    seed: int
    at_s: float
    by_commit: bool
    lasts_s: float
    signals: tuple[int, ...]
    delay_s: float
    outage: Outage | None
    recover_s: float
    config: MigrationConfig

    @property
    def ends_recovery(self) -> bool:
        """Whether somebody is asked to end in a recovery, and then again."""
        return self.cell.phase == "recovery" and self.cell.fault == "ask" and _insists(self.signals)

    @property
    def long(self) -> bool:
        """Whether it lasts longer than anybody may be silent."""
        return self.lasts_s > STALL_S

    @property
    def words(self) -> str:
        """What was drawn, for people."""
        names = "+".join(signal.Signals(number).name for number in self.signals)
        parts = [f"at {self.at_s * 1e3:.0f} ms{' of the commit' * self.by_commit}"]
        parts += [f"for {self.lasts_s:.2f} s"] * bool(self.lasts_s) + [names] * bool(names)
        if self.outage is not None:
            parts.append(
                f"cut at {self.outage.after_s * 1e3:.0f} ms, refused for"
                f" {self.outage.refused_s:.2f} s, {self.outage.delay_s * 1e3:.0f} ms each way"
            )
        return ", ".join(parts)


def _insists(signals: tuple[int, ...]) -> bool:
    """A HUP is never a second one."""
    return any(number != signal.SIGHUP for number in signals[1:])


def case_of(cell: Cell, seed: int) -> Case:
    """What this seed draws; always the same."""
    draw = random.Random(f"{cell}/{seed}")  # noqa: S311 - it is to be the same again
    memory = draw.choice((8, 10, 12, 16)) * MIB
    whole_s = draw.uniform(0.15, 0.4)  # in which all of memory is sent
    delay_s = draw.uniform(0.05, 0.12) if cell.phase == "hand-over" else 0.0
    outage = _outage(draw, cell) if cell.phase == "recovery" else None
    lasts_s = 0.0
    if cell.fault in ("stop", "silence"):
        lasts_s = draw.uniform(*draw.choice((SHORT_S, LONG_S)))
    signals = _signals(draw) if cell.fault == "ask" else ()
    ends = cell.phase == "recovery" and _insists(signals)
    recover_s = LONG_RECOVER_S if ends else RECOVER_S
    if cell.phase == "recovery" and lasts_s > STALL_S:
        recover_s = draw.choice(IN_OUTAGE_S)
    if outage is not None and ends:
        outage = Outage(outage.after_s, 2 * LONG_RECOVER_S, 0.0)
    by_commit = cell.phase == "hand-over" and cell.strategy in COPYING and draw.random() < 0.5
    rate_MBps = draw.choice((20, 40))
    if cell.strategy in HAVE["rounds"]:  # a round has most of what it can find dirty again
        rate_MBps = int(2 * memory / whole_s / 1e6)
    values: dict[str, Any] = {
        "strategy": cell.strategy,
        "memory": memory,
        "workload": f"uniform:working-set=75%,rate={rate_MBps}MB/s,scatter=true",
        "granularity": "page",  # else a stop would be too short
        "cache": 2**18,
        "warmup": 0.05,
        "run_after": 0.1,
        "max_bandwidth": math.inf if cell.phase == "hand-over" else memory / whole_s,
        "stall_timeout": STALL_S,
        "recover_timeout": recover_s,
    }
    config = MigrationConfig.model_validate(values | STRATEGIES[cell.strategy])
    at_s = draw.uniform(0.0, 0.9) * _span_s(cell, whole_s, delay_s, outage)
    if by_commit:
        at_s /= 2  # the answer's way is what is left
    elif cell.phase == "hand-over" and cell.strategy in COPYING:
        at_s += memory / RELAYED_BPS  # the stop comes first
    return Case(cell, seed, at_s, by_commit, lasts_s, signals, delay_s, outage, recover_s, config)


def _outage(draw: random.Random, cell: Cell) -> Outage:
    """Slow connections, where there have to be some to be cut or to be silent."""
    after_s = draw.uniform(0.0, 0.08)
    if cell.hit == "wire" or draw.random() < 0.5:
        return Outage(after_s, 0.0, draw.uniform(0.05, 0.12))
    return Outage(after_s, draw.uniform(0.3, 1.5), 0.0)


def _signals(draw: random.Random) -> tuple[int, ...]:
    """One, or more."""
    many = draw.choice((1, 1, 2, 3))
    return tuple(draw.choice((signal.SIGHUP, signal.SIGTERM)) for _ in range(many))


def _span_s(cell: Cell, whole_s: float, delay_s: float, outage: Outage | None) -> float:
    """How long the phase lasts, about; from when it is seen to begin."""
    if cell.phase == "set-up":
        return 0.07
    if cell.phase == "hand-over":
        return 2 * delay_s
    if outage is not None:
        return min(max(outage.refused_s, 5 * outage.delay_s), 2.0)
    if cell.strategy == "lazy-copy":
        return 0.35
    if cell.phase == "rounds" or cell.strategy in ("stop-and-copy", "post-copy"):
        return whole_s
    return 0.75 * whole_s  # what a round left
