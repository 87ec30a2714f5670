"""This checkout beside another one: the same commands, in turn, each with its own code and `.venv`.

Only the command line and the report's oldest fields are used, so that older checkouts can be
compared with. Each bench runs pairs, and which of the two goes first alternates: what the machine
does meanwhile, and what the first of two leaves behind, is the same for both. A row's bar is that
the 95 % interval of the pairs' median ratio holds 1, or lies on the better side of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pageferry.common.errors import UsageError
from pageferry.common.units import format_size
from scripts.bench_children import PROJECT, Child, environment, folder
from scripts.bench_rows import NO_LESS, NO_MORE, Bar, Bench, Effort, Row, absent, paired_row
from scripts.bench_startup import logged_ns

GIB: Final = 2**30
NO_MARGINS: Final = ("--warmup", "0s", "--run-after", "0s")
# Older checkouts have the code of both agents under a name of its own.
_WHERE: Final = (
    "import importlib.util as u; p = u.find_spec('pageferry');"
    "print((p or u.find_spec('common')).origin)"
)
UNLIMITED: Final = ("--max-bandwidth", "unlimited")


@dataclass(frozen=True)
class Checkout:
    """A folder with the product's code, and an environment in which it is installed."""

    path: Path
    program: Path

    @classmethod
    def at(cls, path: Path) -> Checkout:
        """The checkout at that path. Raises `UsageError` where it can't be run."""
        program = path.resolve() / ".venv/bin/pageferry"
        if not program.is_file():
            raise UsageError(
                f"--against: {path} has no .venv/bin/pageferry: expected a checkout that is set up,"
                f" by `{path / 'scripts/run'} --help` there"
            )
        checkout = cls(path.resolve(), program)
        checkout.need_own_code()
        return checkout

    def need_own_code(self) -> None:
        """Raises `UsageError` where its programs run the code of another folder.

        Both ways in which a Python process finds it: by what is installed, and by the current
        folder, which older agents have in front.
        """
        for flags in (["-P"], []):
            command = [*flags, "-c", _WHERE]
            python = str(self.program.with_name("python"))
            with Child(
                [python, *command], f"{self.path.name}: python", checkout=self.path
            ) as child:
                found = Path(child.end().stdout.strip()).resolve()
            if not found.is_relative_to(self.path):
                raise UsageError(
                    f"--against: {self.path} would run the code of {found.parent.parent}: expected"
                    " a checkout with an environment of its own"
                )

    def run(self, *arguments: str) -> str:
        """Run a command of it to its end; returns its standard output. Raises `PageferryError`."""
        name = f"{self.path.name}: {arguments[0]}"
        with Child([str(self.program), *arguments], name, checkout=self.path) as child:
            return child.end().stdout

    def report(self, *options: str) -> dict[str, Any]:
        """Migrate, without time before or after; returns the report. Raises `PageferryError`."""
        text = self.run("migrate", "--json", "-", *NO_MARGINS, *options)
        found: dict[str, Any] = json.loads(text)
        return found

    def revision(self) -> str | None:
        """Its commit, where git knows it; `+` behind it where files differ from that."""
        git = ["git", "-C", str(self.path), "describe", "--always", "--dirty=+", "--abbrev=12"]
        try:
            done = subprocess.run(git, capture_output=True, text=True, check=False, timeout=20)
        except OSError:
            return None
        return done.stdout.strip() or None


def here() -> Checkout:
    """This checkout, with the environment that runs it."""
    return Checkout(PROJECT, Path(sys.executable).with_name("pageferry"))


@dataclass(frozen=True)
class Measure:
    """A figure of a run. of: from what the run gave; None where it has none."""

    name: str
    unit: str
    bar: Bar | None
    of: Callable[[Mapping[str, Any]], float | None]


def in_pairs(
    effort: Effort,
    name: str,
    run: Callable[[Checkout], dict[str, Any]],
    measures: Sequence[Measure],
) -> list[Row]:
    """Run both checkouts in turn; returns a row a measure that both have figures of."""
    assert effort.against is not None  # noqa: S101 - bench_main asks for it
    sides = here(), Checkout.at(effort.against)
    found: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for checkout in sides:
        run(checkout)  # kernels are compiled, files are read
    for pair in range(effort.runs):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            found[side].append(run(sides[side]))
    against = sides[1].revision() or str(effort.against)
    return [_row(measure, name, against, *found) for measure in measures]


def _row(
    measure: Measure,
    group: str,
    against: str,
    ours: Sequence[Mapping[str, Any]],
    theirs: Sequence[Mapping[str, Any]],
) -> Row:
    """Compare one figure of the runs; a pair of which one side lacks it is left out."""
    both = [(measure.of(a), measure.of(b)) for a, b in zip(ours, theirs, strict=True)]
    pairs = [(a, b) for a, b in both if a is not None and b is not None]
    if not pairs:
        return absent(f"{group}, {measure.name}", "not in both reports")
    return paired_row(
        measure.name,
        measure.unit,
        [a for a, _ in pairs],
        [b for _, b in pairs],
        group=group,
        against=against,
        bar=measure.bar,
    )


def _per_gb(end: str) -> Callable[[Mapping[str, Any]], float | None]:
    def cost(report: Mapping[str, Any]) -> float | None:
        seconds = (report["cpu_s"] or {}).get(end)
        return None if seconds is None else seconds / report["bytes_on_wire"] * 1e9

    return cost


def _latency(rank: str) -> Callable[[Mapping[str, Any]], float | None]:
    def latency(report: Mapping[str, Any]) -> float | None:
        value = (report["postcopy"] or {}).get("fault_latency_us", {}).get(rank)
        return None if value is None else float(value)

    return latency


TOTAL = Measure("total time", "ms", NO_MORE, lambda report: report["total_time_ms"])
DOWNTIME = Measure("downtime", "ms", NO_MORE, lambda report: report["downtime_ms"])
BYTES = Measure("on the wire", "bytes", NO_MORE, lambda report: report["bytes_on_wire"])
CPU = (
    Measure("source", "CPU s/GB", NO_MORE, _per_gb("source")),
    Measure("destination", "CPU s/GB", NO_MORE, _per_gb("dest")),
)
SPEED = Measure(
    "guest's speed meanwhile",
    "steps/s",
    NO_LESS,
    lambda report: report["guest"]["steps_per_s_during"],
)
FAULTS = (
    Measure("fault, p50", "us", NO_MORE, _latency("p50")),
    Measure("fault, p99", "us", NO_MORE, _latency("p99")),
)


def main_job(effort: Effort) -> list[Row]:
    """Three-path as it comes: 1 GiB at 100 MB/s, a load that the cache holds."""
    options = (
        "--memory",
        format_size(effort.size(GIB)),
        "--workload",
        "zipf:working-set=30%,rate=200MB/s",
    )

    def run(checkout: Checkout) -> dict[str, Any]:
        return checkout.report(*options)

    return in_pairs(effort, "main job", run, (TOTAL, DOWNTIME, BYTES, *CPU, SPEED))


def pre_copy(effort: Effort) -> list[Row]:
    """An idle guest as fast as it goes."""
    options = ("--memory", format_size(effort.size(GIB)), "--strategy", "pre-copy", *UNLIMITED)

    def run(checkout: Checkout) -> dict[str, Any]:
        return checkout.report(*options)

    return in_pairs(effort, "pre-copy, idle, unlimited", run, (TOTAL, DOWNTIME, *CPU))


def post_copy(effort: Effort) -> list[Row]:
    """A guest that faults while its memory is pushed: as fast as it goes, and at 100 MB/s."""
    size = format_size(effort.size(GIB // 2))
    load = ("--workload", "uniform:working-set=50%,rate=40MB/s")
    options = ("--memory", size, "--strategy", "post-copy", *load)
    rows = []
    for name, more in (("unlimited", UNLIMITED), ("at 100 MB/s", ())):

        def run(checkout: Checkout, more: tuple[str, ...] = more) -> dict[str, Any]:
            return checkout.report(*options, *more)

        rows += in_pairs(effort, f"post-copy, {name}", run, (TOTAL, DOWNTIME, BYTES, *CPU, *FAULTS))
    return rows


def large(effort: Effort) -> list[Row]:
    """An idle guest of 4 GiB as fast as it goes: what each page costs, and little else."""
    size = format_size(effort.size(4 * GIB))
    rows = []
    for strategy in ("pre-copy", "post-copy"):
        options = ("--memory", size, "--strategy", strategy, "--no-verify", *UNLIMITED)

        def run(checkout: Checkout, options: tuple[str, ...] = options) -> dict[str, Any]:
            return checkout.report(*options)

        rows += in_pairs(effort, f"{strategy}, {size}, unlimited", run, (TOTAL, *CPU))
    return rows


def _wall_ms(checkout: Checkout, *arguments: str, exit_code: int = 0) -> float:
    """Time a command from its start to its end."""
    start = time.perf_counter()
    done = subprocess.run(
        [str(checkout.program), *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        cwd=checkout.path,
        env=environment(checkout.path),
    )
    elapsed_ms = (time.perf_counter() - start) * 1e3
    if done.returncode != exit_code:
        raise subprocess.CalledProcessError(done.returncode, done.args, stderr=done.stderr)
    return elapsed_ms


def _to_first_page_ms(checkout: Checkout, memory: str) -> float:
    """Time a migration from the command's start to its first round."""
    with folder() as logs:
        start_ns = time.monotonic_ns()
        checkout.report("--memory", memory, "--no-verify", *UNLIMITED, "--log-dir", str(logs))
        return (logged_ns(logs / "source.log", "round-start") - start_ns) / 1e6


def start_up(effort: Effort) -> list[Row]:
    """How long a user waits for a help page, an error, a migration's first page, a simulation."""
    memory = format_size(effort.size(GIB // 16))

    def run(checkout: Checkout) -> dict[str, Any]:
        bad = ("migrate", "--workload", "chess")
        return {
            "pageferry --help": _wall_ms(checkout, "--help"),
            "pageferry migrate --help": _wall_ms(checkout, "migrate", "--help"),
            "an unknown workload": _wall_ms(checkout, *bad, exit_code=2),
            "migrate, to its first page": _to_first_page_ms(checkout, memory),
            "simulate, one migration": _wall_ms(checkout, "simulate", "--json", "-"),
        }

    def measure(name: str) -> Measure:
        return Measure(name, "ms", NO_MORE, lambda times: times[name])

    names = (
        "pageferry --help",
        "pageferry migrate --help",
        "an unknown workload",
        "migrate, to its first page",
        "simulate, one migration",
    )
    return in_pairs(effort, "start-up", run, [measure(name) for name in names])


BENCHES: dict[str, Bench] = {
    "main-job": main_job,
    "pre-copy": pre_copy,
    "post-copy": post_copy,
    "large": large,
    "start-up": start_up,
}
