"""What became of a case of random faults: whether it hit, and whether all is as it must be."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pageferry.common.report.schema import Report
from tests.support.fault_rules import DEST, KILLED, NOBODY, SOURCE, Ending
from tests.support.faults import leftovers, never_moved
from tests.support.file_agent import last_status
from tests.support.random_cases import Case
from tests.support.random_faults import Running, Seen
from tests.support.random_logs import EVER
from tests.support.random_rules import allowed, contradictions, dest_codes, outage_s
from tests.support.wires import Wires

MOST_LAG_S: Final = 0.5  # beyond it, what took how long says nothing about the agents


@dataclass
class Verdict:
    """Of a case. status: `hit`, `missed` (the fault came outside its phase), `overloaded` (this

    machine was too busy to say), or `failed`.
    """

    cell: str
    seed: int
    status: str
    drawn: str
    exit_code: int | None
    runs: str
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    lag_s: float = 0.0

    @property
    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @property
    def words(self) -> str:
        """For people: how it ended, and how to do it again."""
        head = f"{self.status}: {self.cell}, {self.drawn}: exit code {self.exit_code},"
        lines = [f"{head} {self.runs or 'nobody'} has the guest ({self.seconds:.1f} s)"]
        lines += [f"    {problem}" for problem in self.problems]
        again = f"scripts/random_faults --only {self.cell} --seed {self.seed}"
        return "\n".join([*lines, f"    again: {again}"])


def judged(case: Case, folder: Path, wires: Wires) -> Verdict:
    """Run it in that empty folder, and judge what was seen."""
    began = time.monotonic()
    seen = Running(case, folder, wires).run()
    source_said = _report(folder)
    ending = Ending(seen.source_code if seen.source_code is not None else KILLED, _runs(case, seen))
    problems = leftovers(folder) + [f"left over: {what}" for what in seen.left]
    problems += two_guests(seen, ending)
    problems += _lost_writes(case, seen, ending, source_said)
    problems += _unexpected(seen)
    done = seen.done
    hit = (
        done is not None
        and done.effective
        and seen.logs.hit(case, done.began_ns, done.ended_ns, seen.lag_s)
    )
    busy = seen.lag_s > MOST_LAG_S
    if hit and not busy:
        late = [f"outlives its limit by more than 5 s: {who}" for who in seen.late]
        problems += late or against_rules(case, seen, ending, source_said)
    status = "failed" if problems else "overloaded" if busy else "hit" if hit else "missed"
    return Verdict(
        str(case.cell),
        case.seed,
        status,
        case.words,
        seen.source_code,
        ending.runs,
        problems,
        seconds=round(time.monotonic() - began, 2),
        lag_s=round(seen.lag_s, 3),
    )


def _report(folder: Path) -> Report | None:
    """What the source reported, if it came to that."""
    said = last_status(folder / "source.status", "report")
    return Report.model_validate(said) if said else None


def _runs(case: Case, seen: Seen) -> str:
    """Who runs the guest in the end, or has run it, whole, until it was stopped."""
    source, dest = seen.witness.source.beats, seen.witness.dest.beats
    since_ns = seen.done.began_ns if seen.done is not None else 0
    killed = case.cell.hit if case.cell.fault == "kill" and seen.done is not None else None
    if source and seen.witness.turns().endswith("S") and source[-1] > since_ns:
        return SOURCE if killed != "source" else NOBODY
    if dest and seen.logs.dest.last("guest-stopped") and killed != "dest":
        return DEST
    return NOBODY


def two_guests(seen: Seen, ending: Ending) -> list[str]:
    turns = seen.witness.turns()
    source, dest = seen.witness.source.beats, seen.witness.dest.beats
    if turns not in ("", "S", "SD"):
        return [f"two guests, or one that came back: {turns}"]
    if ending.runs == SOURCE and dest:
        return ["the source goes on although the destination has run the guest"]
    if source and dest and source[-1] > dest[0]:
        return ["both ran at the same time"]
    return []


def _lost_writes(case: Case, seen: Seen, ending: Ending, report: Report | None) -> list[str]:
    """A guest that was never moved, at the same step, must be the same."""
    if ending.runs == NOBODY:
        return []
    log = seen.logs.source if ending.runs == SOURCE else seen.logs.dest
    stopped, digested = log.last("guest-stopped"), log.last("digested")
    if case.cell.strategy == "lazy-copy" and ending.runs == DEST:
        # It has some of its pages only; what they hold is the replay's to say.
        wrong = report is not None and ending.exit_code == 0 and report.verified is not True
        return ["a lazy copy that was not verified"] * wrong
    if stopped is None or digested is None:
        return ["no digest"]
    if digested["digest"] != never_moved(case.config, stopped["steps"]):
        return [f"lost writes: not the guest that it would have been at {stopped['steps']}"]
    return []


def _unexpected(seen: Seen) -> list[str]:
    """What an agent says of a fault of its own."""
    lines = seen.logs.source.lines + seen.logs.dest.lines
    return [f"said: {line}" for line in lines if "unexpected" in line or "Traceback" in line]


def against_rules(case: Case, seen: Seen, ending: Ending, report: Report | None) -> list[str]:
    committed = seen.logs.source.first("commit-sent") < EVER
    may = allowed(case, outage_s(seen), committed=committed)
    problems = []
    if ending not in may:
        why = (report and report.error) or "it said nothing"
        problems.append(f"ended as {ending}, allowed {sorted(may, key=str)}: {why}")
    problems += contradictions(case, seen, ending)
    if seen.dest_code not in (codes := dest_codes(case, seen)):
        problems.append(f"the destination's exit code is {seen.dest_code}, allowed {codes}")
    if ending.exit_code == 0 and (report is None or report.verified is not True):
        problems.append("exit code 0 without verification")
    claimed = report.guest.runs_at if report is not None else None
    if claimed in (SOURCE, DEST) and ending.runs not in (NOBODY, claimed):
        problems.append(f"the source says that the {claimed} runs it")
    return problems
