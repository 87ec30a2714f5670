"""The rate limit: how exact it is, how smooth, and what a demanded page waits for behind bulk."""

from __future__ import annotations

import contextlib
import json
import math
import typing
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import PageferryError
from pageferry.common.units import format_size
from scripts.bench_children import Child, migrated
from scripts.bench_rows import Bar, Bench, Effort, Row, absent, at_most, row
from tests.support.harness import destination, pageferry

RATE_BPS = 100e6
RATE = "100MB/s"
SECONDS = 5.0
WINDOW_NS = 10_000_000
EDGE_BYTES = 2**20  # at both ends of a stream, while it begins and ends
Arrivals = tuple[NDArray[np.int64], NDArray[np.int64]]


def ways() -> list[str]:
    """How pages can be paced."""
    return list(typing.get_args(MigrationConfig.model_fields["pacing"].annotation))


def title(way: str) -> str:
    return f"100 MB/s by {way}"


@contextlib.contextmanager
def noting_relay(port: int) -> Iterator[tuple[Child, int]]:
    with Child.python("scripts.bench_relay", str(port)) as child:
        yield child, int(child.line())


def arrivals(effort: Effort, way: str) -> tuple[Arrivals, float]:
    """(when, how many) bytes came of an idle guest's migration, ns and bytes; CPU s/GB to send."""
    memory = max(round(RATE_BPS * effort.seconds(SECONDS)) // 2**20, 4) * 2**20
    options = ["--memory", format_size(memory), "--strategy", "stop-and-copy"]
    options += ["--warmup", "0s", "--run-after", "0s", "--max-bandwidth", RATE]
    options += ["--pacing", way]
    with destination("--once") as (agent, port), noting_relay(port) as (relay, relay_port):
        run = pageferry("source", "--to", f"127.0.0.1:{relay_port}", "--json", "-", *options)
        if run.exit_code:
            raise PageferryError(f"a migration failed: {run.stderr.strip()}")
        agent.end()
        seen = json.loads(relay.end().stdout)
    report = run.report
    cost = report.cpu_s.source / report.bytes_on_wire * 1e9 if report.cpu_s else math.nan
    return (np.array(seen["t_ns"], np.int64), np.array(seen["bytes"], np.int64)), cost


def inner(seen: Arrivals) -> Arrivals:
    """Without what came at the edges."""
    t_ns, sizes = seen
    so_far = np.cumsum(sizes)
    within = (so_far > EDGE_BYTES) & (so_far < so_far[-1] - EDGE_BYTES)
    return t_ns[within], sizes[within]


def rate_of(seen: Arrivals) -> float:
    """Bytes a second: what came after the first read, over the time since."""
    t_ns, sizes = inner(seen)
    return float(sizes[1:].sum() / (t_ns[-1] - t_ns[0]) * 1e9)


def windows(seen: Arrivals) -> NDArray[np.float64]:
    """What came in each 10 ms, as a percentage of the rate."""
    t_ns, sizes = inner(seen)
    index = (t_ns - t_ns[0]) // WINDOW_NS
    came = np.bincount(index, weights=sizes)[:-1]  # the last is not whole
    return came / (RATE_BPS * WINDOW_NS / 1e9) * 100


def stream(effort: Effort) -> list[Row]:
    """What arrives of a whole migration at 100 MB/s, noted by a relay on the way."""
    found: dict[str, list[tuple[Arrivals, float]]] = {way: [] for way in ways()}
    for _ in range(effort.runs):
        for way, runs in found.items():
            runs.append(arrivals(effort, way))
    rows = []
    for way, runs in found.items():
        group, seen = title(way), [each for each, _cost in runs]
        rates = [rate_of(each) for each in seen]
        off = [abs(rate / RATE_BPS - 1) * 100 for rate in rates]
        asked = [RATE_BPS / 1e6] * len(rates)
        rows.append(row("rate", "MB/s", [rate / 1e6 for rate in rates], asked, group=group))
        rows.append(row("off by", "%", off, group=group, bar=at_most(0.5)))
        for q in (1, 50, 99):
            figures = [
                float(np.percentile(windows(each), q, method="inverted_cdf")) for each in seen
            ]
            bar = at_most(125) if q == 99 else None
            name = f"windows of 10 ms, p{q}"
            rows.append(row(name, "% of rate", figures, group=group, bar=bar))
        rows.append(row("source", "CPU s/GB", [cost for _seen, cost in runs], group=group))
    return rows


def latencies(effort: Effort, strategy: str, way: str) -> tuple[float, float] | None:
    """p50 and p99 of a fault, us, while a guest visits its pages at random."""
    report = migrated(
        memory=effort.size(512 * 2**20),
        workload="uniform:rate=4MB/s",
        strategy=strategy,
        max_bandwidth=RATE_BPS,
        prepage="0",
        run_after=effort.seconds(4.0),
        pacing=way,
    )
    found = report.postcopy.fault_latency_us if report.postcopy else None
    return None if found is None or found.p99 is None else (found.p50, found.p99)


def urgent(effort: Effort) -> list[Row]:
    """A demanded page while 100 MB/s are pushed, against the same guest with nothing pushed."""
    rows: list[Row] = []
    for way in ways():
        pushed, alone = [], []
        for _ in range(effort.runs):
            pushed.append(latencies(effort, "post-copy", way))
            alone.append(latencies(effort, "lazy-copy", way))
        name = f"{title(way)}, a demanded page behind bulk"
        if None in pushed or None in alone:
            rows.append(absent(name, "no page was demanded: the run was too short"))
            continue
        rows += percentiles(name, pushed, alone)
    return rows


def percentiles(
    name: str,
    pushed: Sequence[tuple[float, float] | None],
    alone: Sequence[tuple[float, float] | None],
) -> list[Row]:
    bars: tuple[Bar | None, ...] = (None, at_most(500))
    return [
        row(
            f"p{q}",
            "us",
            [each[i] for each in pushed if each],
            [each[i] for each in alone if each],
            group=name,
            against="nothing pushed",
            bar=bars[i],
        )
        for i, q in enumerate((50, 99))
    ]


BENCHES: dict[str, Bench] = {"stream": stream, "urgent": urgent}
