"""`scripts/random_faults`: the matrix of random faults at length, in parts, over days if need be.

Each case that has ended leaves a line in `records.jsonl`, which is the only sign that it has: a run
that was interrupted goes on where it was. A fault that came outside its phase is made up for with
another seed, and so is a case during which this machine was too busy; both are counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support.random_cases import BY_NAME, CELLS, FAULTS, HAVE, Cell, case_of
from tests.support.random_verdicts import Verdict, judged
from tests.support.wires import Wires

PROJECT: Final = Path(__file__).resolve().parent.parent
COUNTS: Final = ("hit", "failed")  # the fault came in its phase, and all of it was judged
MOST_TRIES: Final = 4  # seeds for each case of a cell that is wanted


@dataclass
class Records:
    """What has been done, by cell and seed."""

    path: Path
    done: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Records:
        """All of an earlier run's; a last line that was cut off counts for nothing."""
        records = cls(folder / "records.jsonl")
        if records.path.exists():
            for line in records.path.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                records.done[entry["cell"], entry["seed"]] = entry
        return records

    def add(self, entry: dict[str, Any]) -> None:
        """One that has ended; on the disk when this returns."""
        self.done[entry["cell"], entry["seed"]] = entry
        with self.path.open("ab+") as file:
            if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
                file.write(b"\n")  # after a line that was cut off
            file.write((json.dumps(entry) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def counted(self) -> Counter[str]:
        """By cell: how many count."""
        return Counter(cell for (cell, _), each in self.done.items() if each["status"] in COUNTS)


@dataclass
class Plan:
    """Which case is next: of the cell that has the fewest, its first seed that is free."""

    records: Records
    wanted: int  # a cell
    under_way: set[tuple[str, int]] = field(default_factory=set)

    def next(self) -> tuple[Cell, int] | None:
        """None: there is nothing to begin at the moment."""
        counted, taken = self.records.counted(), self.under_way | self.records.done.keys()
        counted.update(cell for cell, _ in self.under_way)
        tried = Counter(cell for cell, _ in taken)
        for cell in sorted(CELLS, key=lambda cell: counted[str(cell)]):
            name = str(cell)
            if counted[name] < self.wanted and tried[name] < MOST_TRIES * self.wanted:
                seed = next(n for n in range(len(taken) + 1) if (name, n) not in taken)
                self.under_way.add((name, seed))
                return cell, seed
        return None


def run_one(cell: Cell, seed: int, folder: Path, wires: Wires) -> Verdict:
    """In a folder of its own, which stays where it failed."""
    failed = folder / "failed" / f"{str(cell).replace('/', '-')}-{seed}"
    own = Path(tempfile.mkdtemp(prefix="case-", dir=folder))
    try:
        verdict = judged(case_of(cell, seed), own, wires)
    except Exception as error:  # noqa: BLE001 - a case that could not be judged has failed
        verdict = Verdict(str(cell), seed, "failed", "", None, "", [f"not judged: {error!r}"])
    if verdict.status == "failed":
        failed.parent.mkdir(exist_ok=True)
        shutil.rmtree(failed, ignore_errors=True)
        own.rename(failed)
    else:
        shutil.rmtree(own)
    return verdict


def run_all(records: Records, options: argparse.Namespace) -> bool:
    """Until each cell has its share, the time is over, or somebody asks to end; whether all did."""
    plan = Plan(records, math.ceil(options.cases / len(CELLS)))
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())
    until = time.monotonic() + options.minutes * 60
    commit, wires = _commit(), Wires()
    running: dict[Future[Verdict], tuple[str, int]] = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        while True:
            while len(running) < options.jobs and not over.is_set() and time.monotonic() < until:
                case = plan.next()
                if case is None:
                    break
                future = pool.submit(run_one, *case, options.folder, wires)
                running[future] = (str(case[0]), case[1])
            if not running:
                break
            done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                plan.under_way.discard(running.pop(future))
                _note(records, future.result(), commit)
    wires.close()
    return all(records.counted()[str(cell)] >= plan.wanted for cell in CELLS)


def _note(records: Records, verdict: Verdict, commit: str) -> None:
    records.add(verdict.record | {"commit": commit})
    if verdict.status == "failed":
        print(verdict.words, flush=True)
    if len(records.done) % 100 == 0:
        print(f"{time.strftime('%H:%M:%S')} {summary(records.done.values())}", flush=True)


def _commit() -> str:
    """Of this checkout; empty where there is none."""
    asked = ["git", "-C", str(PROJECT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def summary(records: Iterable[dict[str, Any]]) -> str:
    """One line."""
    by = Counter(each["status"] for each in records)
    counts = sum(by[status] for status in COUNTS)
    return (
        f"{counts:,} cases: {by['failed']} failed; {by['missed']:,} more missed their phase, during"
        f" {by['overloaded']:,} this machine was too busy"
    )


def table(records: Iterable[dict[str, Any]]) -> str:
    """The counts as docs/faults.md has them: cases, and of them failed ones where there are any."""
    records = list(records)
    by = Counter((each["cell"], each["status"]) for each in records)
    heads = [fault if hit == "wire" else f"{fault} {hit}" for fault, hit in FAULTS]
    lines = [f"| phase | strategy | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    for phase, strategies in HAVE.items():
        for strategy in strategies:
            cells = [str(Cell(phase, strategy, fault, hit)) for fault, hit in FAULTS]
            shown = [
                str(by[cell, "hit"] + by[cell, "failed"])
                + f" ({by[cell, 'failed']} failed)" * bool(by[cell, "failed"])
                for cell in cells
            ]
            lines.append(f"| {phase} | {strategy} | {' | '.join(shown)} |")
    commits = sorted({each["commit"] for each in records if each.get("commit")})
    return "\n".join([f"{summary(records)} (commits {', '.join(commits)}).", "", *lines])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where a case has failed, 3 where the wanted number has not been reached."""
    parser = argparse.ArgumentParser(prog="scripts/random_faults", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="how many, over all cells evenly")
    parser.add_argument("--folder", type=Path, help="where records are, and what failed is left")
    cores = os.cpu_count() or 1
    parser.add_argument("-j", "--jobs", type=int, default=2 * cores, help="how many at a time")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after so many")
    parser.add_argument("--only", metavar="CELL", help="one case; an unknown one lists all")
    parser.add_argument("--seed", type=int, default=0, help="of --only")
    parser.add_argument("--counts", action="store_true", help="print the table of the records")
    options = parser.parse_args(arguments)
    if options.only is not None:
        return _only(parser, options)
    if options.folder is None:
        parser.error("--folder DIR is needed")
    options.folder.mkdir(parents=True, exist_ok=True)
    records = Records.read(options.folder)
    reached = options.counts or run_all(records, options)
    print(table(records.done.values()) if options.counts else summary(records.done.values()))
    failed = any(each["status"] == "failed" for each in records.done.values())
    return 1 if failed else 0 if reached else 3


def _only(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    cell = BY_NAME.get(options.only)
    if cell is None:
        parser.error(f"no cell {options.only!r}: expected one of {', '.join(BY_NAME)}")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="random-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    verdict = run_one(cell, options.seed, folder, Wires())
    print(verdict.words)
    return 1 if verdict.status == "failed" else 0


if __name__ == "__main__":
    sys.exit(main())
