"""How long commands take to start, against `python -c pass`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pageferry.common.errors import PageferryError
from pageferry.common.units import format_size
from scripts.bench_children import folder
from scripts.bench_rows import Bench, Effort, Row, row
from tests.support.harness import command, pageferry

MEMORY = 64 * 2**20


def wall_ms(arguments: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1e3


def nothing_ms() -> float:
    return wall_ms([sys.executable, "-c", "pass"])


def help_page(effort: Effort) -> list[Row]:
    """The command's help, which every user waits for."""
    ours, theirs = [], []
    for _ in range(effort.runs):
        theirs.append(nothing_ms())
        ours.append(wall_ms(command("--help")))
    return [row("pageferry --help", "ms", ours, theirs, against="python -c pass")]


def logged_ns(log: Path, event: str) -> int:
    """When this happened first, CLOCK_MONOTONIC."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return int(next(each["t_ns"] for each in entries if each.get("event") == event))


def first_page(effort: Effort) -> list[Row]:
    """From the start of `pageferry migrate`, with no time to warm up, to its first round."""
    ours, theirs = [], []
    options = ["--memory", format_size(effort.size(MEMORY)), "--json", "-"]
    options += ["--warmup", "0s", "--run-after", "0s", "--no-verify", "--max-bandwidth=unlimited"]
    for _ in range(effort.runs):
        theirs.append(nothing_ms())
        with folder() as logs:
            start = time.monotonic_ns()
            run = pageferry("migrate", *options, "--log-dir", str(logs))
            if run.exit_code:
                raise PageferryError(f"a migration failed: {run.stderr.strip()}")
            ours.append((logged_ns(logs / "source.log", "round-start") - start) / 1e6)
    name = "pageferry migrate, to its first page"
    return [row(name, "ms", ours, theirs, against="python -c pass")]


BENCHES: dict[str, Bench] = {"help": help_page, "first-page": first_page}
