"""The guest's speed, and what is done to it while it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import uvloop

from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest.compiling import compile_kernels
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.stale import new_masks
from scripts.bench_rows import Bench, Effort, Row, row

WARM_S = 0.4
SAMPLE_S = 0.6
TRACKED_S = 0.05
MIB = 2**20
GIB = 2**30
SETTLE_S = 2.0  # until the working set has been written once
HITS = "uniform:working-set=1MiB,scatter=true"
ANYWHERE = "uniform:scatter=true"


@contextmanager
def running(
    effort: Effort, workload: str, memory: int, *, count_writes: bool = False, **options: int | str
) -> Iterator[Guest]:
    settings = {"workload": workload, "memory": effort.size(memory), **options}
    config = GuestConfig.model_validate(settings)
    compile_kernels(config)
    guest = Guest(config, boot=True, count_writes=count_writes)
    try:
        guest.start()
        guest.resume()
        time.sleep(effort.seconds(WARM_S))
        yield guest
    finally:
        guest.close()


def steps_per_s(guest: Guest, effort: Effort, seconds: float = SAMPLE_S) -> float:
    before = guest.progress()
    time.sleep(effort.seconds(seconds))
    after = guest.progress()
    return (after.steps - before.steps) / (after.t_ns - before.t_ns) * 1e9


def against_no_cache(name: str, workload: str, memory: int, effort: Effort) -> list[Row]:
    with running(effort, workload, memory) as guest:
        values = [steps_per_s(guest, effort) / 1e6 for _ in range(effort.runs)]
    with running(effort, workload, memory, cache=0) as guest:
        direct = [steps_per_s(guest, effort) / 1e6 for _ in range(effort.runs)]
    return [row(name, "M/s", values, direct, against="no cache")]


def hits(effort: Effort) -> list[Row]:
    return against_no_cache("hits in a 1 MB set", HITS, 64 * MIB, effort)


def anywhere(effort: Effort) -> list[Row]:
    return against_no_cache("uniform over 1 GiB", ANYWHERE, GIB, effort)


def counting(effort: Effort) -> list[Row]:
    """Steps a CPU second with a count of each page's writes, and without."""
    rows = []
    for name, workload, memory in (
        ("hits in a 1 MB set", HITS, 64 * MIB),
        ("uniform over 1 GiB", ANYWHERE, GIB),
        ("memory-intensive", "memory-intensive", 256 * MIB),
    ):
        figures: dict[bool, list[float]] = {True: [], False: []}
        with (
            running(effort, workload, memory, count_writes=True) as counted,
            running(effort, workload, memory) as plain,
        ):
            for _ in range(effort.runs):
                for guest, other in ((counted, plain), (plain, counted)):
                    other.pause()
                    before, cpu_s = guest.progress().steps, guest.cpu_s()
                    time.sleep(effort.seconds(SAMPLE_S))
                    steps, cpu_s = guest.progress().steps - before, guest.cpu_s() - cpu_s
                    figures[guest is counted].append(steps / cpu_s / 1e6)
                    other.resume()
        title = f"counting writes, {name}"
        rows.append(row(title, "M/s", figures[True], figures[False], against="not counting"))
    return rows


def two_vcpus(effort: Effort) -> list[Row]:
    rows = []
    for name, workload, memory in (
        ("hits in a 1 MB set each", "uniform:working-set={}MiB,scatter=true", 64 * MIB),
        ("uniform over 1 GiB", ANYWHERE, GIB),
    ):
        values, references = [], []
        for _ in range(effort.runs):
            with running(effort, workload.format(2), memory, vcpus=2) as guest:
                values.append(steps_per_s(guest, effort) / 1e6)
            with running(effort, workload.format(1), memory) as guest:
                references.append(steps_per_s(guest, effort) / 1e6)
        rows.append(row(f"two vCPUs, {name}", "M/s", values, references, against="one"))
    return rows


async def _tick(seconds: float) -> list[float]:
    late = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        asked = time.monotonic_ns()
        await asyncio.sleep(0.001)
        late.append((time.monotonic_ns() - asked - 1_000_000) / 1e3)
    return late


def event_loop(effort: Effort) -> list[Row]:
    def lateness() -> tuple[float, float]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            late = runner.run(_tick(effort.seconds(1.0)))
        p50, p99 = np.percentile(late, (50, 99), method="inverted_cdf")
        return float(p50), float(p99)

    idle = [lateness() for _ in range(effort.runs)]
    with running(effort, "memory-intensive", 256 * MIB, vcpus=2):
        busy = [lateness() for _ in range(effort.runs)]
    return [
        row(
            f"event loop's lateness, two busy vCPUs, {name}",
            "us",
            [sample[i] for sample in busy],
            [sample[i] for sample in idle],
            against="no guest",
        )
        for i, name in enumerate(("p50", "p99"))
    ]


def rate(effort: Effort) -> list[Row]:
    asked = 40e6
    with running(effort, "uniform:rate=40MB/s", 256 * MIB, vcpus=2) as guest:
        values = [steps_per_s(guest, effort, 1.0) * 4096 / 1e6 for _ in range(effort.runs)]
    references = [asked / 1e6] * effort.runs
    return [row("page visits", "MB/s", values, references, against="what was asked")]


def tracker(effort: Effort) -> list[Row]:
    """The guest's speed while the kernel tracks its writes; the log alone does in the reference.

    Both harvest; then the guest runs for a moment, and for as long again after it has been left
    alone.
    """
    rows = []
    for name, workload, cache in (
        ("uniform over 1 GiB", ANYWHERE, "4MiB"),
        ("uniform over 1 GiB, no cache", ANYWHERE, "0"),
        ("memory-intensive", "memory-intensive", "4MiB"),
    ):
        after: dict[bool, list[float]] = {True: [], False: []}
        steady: dict[bool, list[float]] = {True: [], False: []}
        with running(effort, workload, GIB, cache=cache) as guest:
            out = new_masks(guest.n_pages)
            for turn in range(2 * effort.runs):
                kernel = turn % 2 == 0
                if kernel:
                    guest.track_by_kernel()
                    guest.harvest(out)
                    time.sleep(effort.seconds(TRACKED_S))
                guest.harvest(out)
                after[kernel].append(steps_per_s(guest, effort, TRACKED_S) / 1e6)
                time.sleep(effort.seconds(SETTLE_S))
                steady[kernel].append(steps_per_s(guest, effort) / 1e6)
                guest.track_by_log()
        for when, figures in (("right after a harvest", after), ("left alone", steady)):
            title = f"tracked by the kernel, {name}, {when}"
            rows.append(row(title, "M/s", figures[True], figures[False], against="by the log"))
    return rows


def scan(effort: Effort) -> list[Row]:
    """Listing and protecting the pages of 1 GiB, against the log's harvest of the same pages."""
    rows = []
    config = GuestConfig(memory=effort.size(GIB), cache=0, workload="uniform:lines=1")
    compile_kernels(config)
    guest = Guest(config, boot=True)
    try:
        guest.start()
        guest.track_by_kernel()
        assert guest.kernel_dirty is not None  # noqa: S101
        out = new_masks(guest.n_pages)
        start = time.perf_counter()
        guest.harvest(out)
        first = (time.perf_counter() - start) * 1e3
        for share, visits in ((0.0, 0.0), (0.1, 0.105), (1.0, 15.0)):  # a page each, at random
            scans, harvests = [], []
            for _ in range(effort.runs):
                guest.run_until([guest.steps()[0] + round(visits * guest.n_pages)])
                start = time.perf_counter()
                guest.kernel_dirty.scan(out)
                scans.append((time.perf_counter() - start) * 1e3)
                start = time.perf_counter()
                guest.kernel_dirty.log.harvest(out)
                harvests.append((time.perf_counter() - start) * 1e3)
            title = f"kernel's scan of 1 GiB, {share:.0%} dirty"
            rows.append(row(title, "ms", scans, harvests, against="the log's harvest"))
        rows.append(row("first scan of 1 GiB, which protects all of it", "ms", [first]))
    finally:
        guest.close()
    return rows


BENCHES: dict[str, Bench] = {
    "hits": hits,
    "anywhere": anywhere,
    "counting": counting,
    "two-vcpus": two_vcpus,
    "loop": event_loop,
    "rate": rate,
    "tracker": tracker,
    "scan": scan,
}
