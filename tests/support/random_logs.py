"""What two agents' logs say of a case: followed while it runs, and which phase was when.

Times are CLOCK_MONOTONIC in ns. A source writes its events when it ends; what it says, and all that
a destination has to say, is written at once, and is left of one that was killed.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support.random_cases import Case, Phase

GUARD_S: Final = 0.03  # a fault this close to a phase's end may be acted on after it
EVER: Final = math.inf

# What the source says, or the destination, as each phase begins.
BEGINS: Final[dict[Phase, tuple[str, ...]]] = {
    "set-up": ("a migration from",),
    "rounds": ("round 1",),
    "stop": ("handing over",),
    "hand-over": ("handing over",),
    "post-copy": ("the guest runs there", "lazy copy"),
    "recovery": ("the guest runs there", "lazy copy"),
}
_AFTER_SET_UP: Final = ("warming up", "round 1", "handing over", "the guest runs")
_AFTER_ROUNDS: Final = ("handing over", "the guest runs")
_AFTER_STOP: Final = ("the guest runs", "lazy copy", "the destination's answer was lost")
_ALL_THERE: Final = ("the guest runs at the destination",)


@dataclass
class Log:
    """One agent's, as far as it has been written; `look` reads on."""

    path: Path
    entries: list[dict[str, Any]] = field(default_factory=list)
    _offset: int = 0

    def look(self) -> None:
        """Read what has come. The last line of a process that was killed may be part of one."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        wall_to_monotonic_ns = time.monotonic_ns() - time.time_ns()
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if "wall_s" in entry:
                    entry["t_ns"] = int(entry["wall_s"] * 1e9) + wall_to_monotonic_ns
                self.entries.append(entry)

    def said(self, *words: str, after_ns: float = -EVER) -> float:
        """When a line with any of these words was first said since then; `EVER`: never."""
        for entry in self.entries:
            line = entry.get("say", "")
            if entry["t_ns"] >= after_ns and any(word in line for word in words):
                return float(entry["t_ns"])
        return EVER

    def first(self, *events: str, after_ns: float = -EVER) -> float:
        """When the first of these events was since then; `EVER`: never."""
        times = [e["t_ns"] for e in self.entries if e.get("event") in events]
        return float(min((t for t in times if t >= after_ns), default=EVER))

    def last(self, event: str) -> dict[str, Any] | None:
        """The last event of that name."""
        found = [entry for entry in self.entries if entry.get("event") == event]
        return found[-1] if found else None

    @property
    def lines(self) -> list[str]:
        """What was said."""
        return [entry["say"] for entry in self.entries if "say" in entry]


@dataclass
class Logs:
    """Both agents'."""

    source: Log
    dest: Log

    @classmethod
    def of(cls, folder: Path) -> Logs:
        """In the folder that both were given as `--log-dir`."""
        return cls(Log(folder / "source.log"), Log(folder / "dest.log"))

    def look(self) -> None:
        """Read on."""
        self.source.look()
        self.dest.look()

    def begun(self, case: Case) -> bool:
        """Whether its phase has been seen to begin; of a recovery, that there may be one."""
        if case.by_commit:
            return self.dest.first("commit-received") < EVER
        phase = case.cell.phase
        log = self.dest if phase == "set-up" else self.source
        return log.said(*BEGINS[phase]) < EVER

    @property
    def session_over(self) -> bool:
        """Whether the destination has said that its session has ended."""
        return self.dest.said(": done", ": ended: ") < EVER

    def hit(self, case: Case, began_ns: float, ended_ns: float, lag_s: float) -> bool:
        """Whether a fault that was done between those times came within its phase.

        lag_s: how late this machine does what is due.
        """
        killed = not self.source.first("connect") < EVER
        spans = self._spans_of_killed(case, began_ns) if killed else self._spans(case)
        done_ns = ended_ns + (0 if killed else _guard_ns(case, lag_s))
        if case.cell.phase == "hand-over" and case.cell.fault == "kill":
            done_ns = began_ns  # what is on its way arrives although its sender has died
        return any(begin <= began_ns and done_ns <= end for begin, end in spans)

    def _spans(self, case: Case) -> list[tuple[float, float]]:
        """From when to when the phase was, by the source's events."""
        source, dest = self.source.first, self.dest.first
        committed = source("commit-sent")
        there = source("resumed-there")
        match case.cell.phase:
            case "set-up":
                return [(source("connect"), source("set-up"))]
            case "rounds":
                return [(source("round-start"), source("pause-requested"))]
            case "stop":
                return [(source("pause-requested"), committed)]
            case "hand-over":
                # Where the source had to ask, it was broken by the fault, and not over.
                return [(committed, there if source("inquire") == EVER else EVER)]
            case "post-copy":
                whole = min(source("completed"), dest("all-pages-present", "guest-stopped"))
                return [(there, whole)]
            case "recovery":
                log = self.dest if case.cell.hit == "dest" else self.source
                return _outages(log)

    def _spans_of_killed(self, case: Case, killed_ns: float) -> list[tuple[float, float]]:
        """The same by what a source has said that was killed then."""
        said, dest = self.source.said, self.dest
        handing_over = said("handing over")
        has_commit = dest.first("commit-received") < EVER
        match case.cell.phase:
            case "set-up":
                return [(dest.said("a migration from"), said(*_AFTER_SET_UP))]
            case "rounds":
                return [(said("round 1"), said(*_AFTER_ROUNDS))]
            case "stop":
                return [] if has_commit else [(handing_over, said(*_AFTER_STOP))]
            case "hand-over":
                return [(handing_over, said(*_AFTER_STOP))] if has_commit else []
            case "post-copy":
                whole = dest.first("all-pages-present", "guest-stopped")
                begins = said(*BEGINS["post-copy"])
                return [(begins, min(whole, said(*_ALL_THERE, after_ns=begins + 1)))]
            case "recovery":
                outages = _outages(dest)
                # The death of the source ends no outage, and may begin one.
                return [(a, b) for a, b in outages if a < killed_ns and case.outage is not None]


def _guard_ns(case: Case, lag_s: float) -> float:
    """How long before a phase's end a fault must have been done."""
    cell = case.cell
    if cell.phase == "hand-over" and cell.fault != "ask":
        return 0  # a step further on nothing else may follow from it
    if cell.strategy == "lazy-copy" and (cell.fault, cell.hit) == ("ask", "dest"):
        return 0  # it is this that ends the phase
    return (GUARD_S + lag_s) * 1e9


def _outages(log: Log) -> list[tuple[float, float]]:
    """From each break to when the stream was whole again."""
    breaks = [e["t_ns"] for e in log.entries if e.get("event") == "postcopy-paused"]
    ends = "postcopy-recovered", "all-pages-present", "completed", "guest-stopped"
    return [(float(t), log.first(*ends, after_ns=t)) for t in breaks]
