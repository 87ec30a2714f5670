"""`scripts/bench`: the command line of all benchmarks."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from pageferry._version import __version__
from pageferry.common.command_line.run import JsonOptions, run_app
from pageferry.common.errors import (
    EXIT_FAILED,
    EXIT_OK,
    CancelledByUser,
    PageferryError,
    UsageError,
)
from pageferry.common.process import signals
from pageferry.common.process.entry import start
from scripts.bench_children import INTERRUPTS
from scripts.bench_rows import Bench, Effort, Row, failure, table

# Part -> what it is about. Each is the module scripts.bench_PART; qemu is run by name only.
PARTS = {
    "guest": "speed of the guest and of what is done to it while it runs",
    "faults": "latency of page faults against a plain request and response",
    "wire": "throughput and CPU of whole migrations against sendall and iperf3",
    "pacing": "accuracy and smoothness of the rate limit, latency behind it",
    "memory": "scans, copies and checksums against memory bandwidth",
    "pause": "from the request to all vCPUs stopped, against a quantum",
    "startup": "how long commands take to start, against python -c pass",
    "qemu": "the same migrations under QEMU, side by side",
    "against": "whole commands beside those of another checkout, which --against names",
}
BY_NAME_ONLY = ("qemu", "against")
RUNS = 5
PAIRS = 10  # with --against: below 6, chance can't be told from a loss
SCHEMA_VERSION = 1
# Of programs that were started, and of those that start agents for tests (AssertionError).
FAILURES = (PageferryError, OSError, subprocess.SubprocessError, AssertionError)
TABLE_WIDTH = 110  # in a file or a pipe, too

_HELP = f"""Benchmarks: each row is our figure, a reference that was measured beside it in the same
run, their ratio, and the least and greatest of the runs.

Without PARTS: all but {" and ".join(BY_NAME_ONLY)}; with `all`: everything that can be run here.
A part may name its benchmarks, as in guest:hits,scan.

With --against PATH the reference is that checkout: the same commands run in pairs, and a bar is met
where the 95 % interval of the pairs' median ratio holds 1 or better.

{chr(10).join(f"- {name}: {what}" for name, what in PARTS.items())}

Exit codes: 0 measured; 1 something that was to be measured failed; 2 bad usage, or a part asked for
by name needs what is not installed; 130 cancelled. A bar that is missed is said, and no failure.
"""


class BenchOptions(BaseModel):
    """How much is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: Annotated[
        int | None,
        Field(
            ge=1,
            le=1000,
            description=f"runs of each figure, for a median: {RUNS}; {PAIRS} pairs with --against",
        ),
    ] = None
    quick: Annotated[
        bool,
        Parameter(negative=""),
        Field(description="small and short, to see that it works: no figures to quote"),
    ] = False
    vs_qemu: Annotated[
        bool, Parameter(negative=""), Field(description="the same as the part qemu")
    ] = False
    against: Annotated[
        Path | None,
        Field(description="another checkout, set up by its own scripts/run: the part against"),
    ] = None


def benches(part: str) -> Mapping[str, Bench]:
    """The benchmarks of a part, imported when they are wanted."""
    found: Mapping[str, Bench] = importlib.import_module(f"scripts.bench_{part}").BENCHES
    return found


def chosen(words: Sequence[str]) -> dict[str, list[str]]:
    """Part -> its benchmarks, of `PART[:NAME,...]` words. Raises `UsageError`."""
    out: dict[str, list[str]] = {}
    if "all" in words:
        words = [part for part in PARTS if part != "against"]
    for word in words or [part for part in PARTS if part not in BY_NAME_ONLY]:
        part, colon, names = word.partition(":")
        if part not in PARTS:
            raise UsageError(f"no part {part!r}: expected one of {', '.join(PARTS)}")
        known = benches(part)
        wanted = names.split(",") if colon else list(known)
        for name in wanted:
            if name not in known:
                raise UsageError(f"no benchmark {name!r} in {part}: it has {', '.join(known)}")
        out.setdefault(part, []).extend(wanted)
    return out


def check_against(path: Path | None, wanted: Mapping[str, Sequence[str]]) -> None:
    """Refuse the part `against` without another checkout, and one that can't be run.

    Raises `UsageError`.
    """
    if (path is None) != ("against" not in wanted):
        raise UsageError("the part against and --against PATH, another checkout, need one another")
    if path is not None:
        importlib.import_module("scripts.bench_against").Checkout.at(path)


def measure(part: str, names: Sequence[str], effort: Effort) -> list[Row]:
    """Run these benchmarks of a part. One that fails is a row that says so: the others go on."""
    known, found = benches(part), list[Row]()
    for name in names:
        try:
            found += known[name](effort)
        except CancelledByUser:
            raise
        except FAILURES as error:
            found.append(failure(name, str(error)))
    return found


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    return {
        "version": __version__,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "congestion_default": congestion.read_text().strip() if congestion.exists() else None,
    }


def document(effort: Effort, before: dict[str, Any], rows: Mapping[str, list[Row]]) -> str:
    """The JSON of a run. machine.load: before and after it, other work of the machine shows."""
    return (
        json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "machine": before | {"load_after": os.getloadavg()[0]},
                "runs": effort.runs,
                "quick": effort.quick,
                "rows": [each.as_json(part) for part, found in rows.items() for each in found],
            },
            indent=1,
        )
        + "\n"
    )


def bench(
    *parts: Annotated[str, Parameter(help="PART[:NAME,...]", show_default=False)],
    options: Annotated[BenchOptions | None, Parameter(name="*")] = None,
    output: Annotated[JsonOptions | None, Parameter(name="*")] = None,
) -> int:
    """Measure, and print a table for each part."""
    options, output = options or BenchOptions(), output or JsonOptions()
    effort = Effort(
        options.runs or (PAIRS if options.against else RUNS), options.quick, options.against
    )
    words = [*parts, "qemu"] if options.vs_qemu else list(parts)
    if options.against is not None and not words:
        words = ["against"]
    wanted = chosen(words)
    check_against(options.against, wanted)
    if "qemu" in wanted and "all" not in words:
        importlib.import_module("scripts.bench_qemu").require()
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    before, results = machine(), dict[str, list[Row]]()
    with output.opened("the benchmarks are done, but their result") as file, _interruptible():
        for part, names in wanted.items():
            _say(f"{part}: {', '.join(names)}")
            results[part] = measure(part, names, effort)
            if output.json_file != "-":
                quick = ", quick: sizes are smaller than they are called" * effort.quick
                console.print(table(part + quick, results[part]))
        if file is not None:
            file.write(document(effort, before, results))
    failed = any(each.failed for found in results.values() for each in found)
    return EXIT_FAILED if failed else EXIT_OK


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(what, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as Ctrl-C does: whatever was started is ended on the way out."""
    INTERRUPTS.seen = False
    try:
        with signals.received(INTERRUPTS.handle):
            yield
    except KeyboardInterrupt:
        raise CancelledByUser("cancelled: nothing of this run is left behind") from None


def _run() -> int:
    app = App(name="scripts/bench", help=_HELP, version=__version__, help_format="markdown")
    app.default(bench)
    return run_app(app, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(start(_run))
