"""Benchmarks of the guest: `python scripts/bench_guest.py [--json] [--runs N] [NAME...]`.

Every row is a median of several runs with its least and greatest. Where there is something to
compare with it is measured in the same run: `ratio` is ours / reference.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench_rows import Row, command, row

from common.config import GuestConfig
from common.guest.machine import Guest, compile_kernels

WARM_S = 0.4
SAMPLE_S = 0.6
TRACKED_S = 0.05
SETTLE_S = 2.0  # until the working set has been written once
HITS = "uniform:working-set=1MiB,scatter=true"
ANYWHERE = "uniform:scatter=true"


@contextmanager
def running(
    workload: str, memory: str, *, count_writes: bool = False, **options: int | str
) -> Iterator[Guest]:
    settings = {"workload": workload, "memory": memory, **options}
    config = GuestConfig.model_validate(settings)
    compile_kernels(config)
    guest = Guest(config, boot=True, count_writes=count_writes)
    try:
        guest.start()
        guest.resume()
        time.sleep(WARM_S)
        yield guest
    finally:
        guest.close()


def steps_per_s(guest: Guest, seconds: float = SAMPLE_S) -> float:
    before = guest.progress()
    time.sleep(seconds)
    after = guest.progress()
    return (after.steps - before.steps) / (after.t_ns - before.t_ns) * 1e9


def against_no_cache(name: str, workload: str, memory: str, runs: int) -> list[Row]:
    with running(workload, memory) as guest:
        values = [steps_per_s(guest) / 1e6 for _ in range(runs)]
    with running(workload, memory, cache=0) as guest:
        direct = [steps_per_s(guest) / 1e6 for _ in range(runs)]
    return [row(f"{name}; reference: without a cache", "M/s", values, direct)]


def hits(runs: int) -> list[Row]:
    return against_no_cache("hits in a 1 MB set", HITS, "64MiB", runs)


def anywhere(runs: int) -> list[Row]:
    return against_no_cache("uniform over 1 GiB", ANYWHERE, "1GiB", runs)


def counting(runs: int) -> list[Row]:
    """Steps a CPU second with a count of each page's writes, and without."""
    rows = []
    for name, workload, memory in (
        ("hits in a 1 MB set", HITS, "64MiB"),
        ("uniform over 1 GiB", ANYWHERE, "1GiB"),
        ("memory-intensive", "memory-intensive", "256MiB"),
    ):
        figures: dict[bool, list[float]] = {True: [], False: []}
        with (
            running(workload, memory, count_writes=True) as counted,
            running(workload, memory) as plain,
        ):
            for _ in range(runs):
                for guest, other in ((counted, plain), (plain, counted)):
                    other.pause()
                    before, cpu_s = guest.progress().steps, guest.cpu_s()
                    time.sleep(SAMPLE_S)
                    steps, cpu_s = guest.progress().steps - before, guest.cpu_s() - cpu_s
                    figures[guest is counted].append(steps / cpu_s / 1e6)
                    other.resume()
        rows.append(
            row(f"counting writes, {name}; reference: not", "M/s", figures[True], figures[False])
        )
    return rows


def two_vcpus(runs: int) -> list[Row]:
    rows = []
    for name, workload, memory in (
        ("hits in a 1 MB set each", "uniform:working-set={}MiB,scatter=true", "64MiB"),
        ("uniform over 1 GiB", ANYWHERE, "1GiB"),
    ):
        values, references = [], []
        for _ in range(runs):
            with running(workload.format(2), memory, vcpus=2) as guest:
                values.append(steps_per_s(guest) / 1e6)
            with running(workload.format(1), memory) as guest:
                references.append(steps_per_s(guest) / 1e6)
        rows.append(row(f"two vCPUs, {name}; reference: one", "M/s", values, references))
    return rows


def pause_latency(runs: int) -> list[Row]:
    pauses, quanta = [], []
    with running("memory-intensive", "256MiB", vcpus=2) as guest:
        for _ in range(runs):
            cpu_s, begun = guest.cpu_s(), guest.quanta()
            time.sleep(0.2)
            quanta.append((guest.cpu_s() - cpu_s) / (guest.quanta() - begun) * 1e6)
        for _ in range(runs * 20):
            asked = time.monotonic_ns()
            guest.pause()
            pauses.append((time.monotonic_ns() - asked) / 1e3)
            guest.resume()
            time.sleep(0.005)
    return [row("pause of two busy vCPUs", "us", pauses), row("quantum", "us", quanta)]


async def _tick(seconds: float) -> list[float]:
    late = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        asked = time.monotonic_ns()
        await asyncio.sleep(0.001)
        late.append((time.monotonic_ns() - asked - 1_000_000) / 1e3)
    return late


def event_loop(runs: int) -> list[Row]:
    def lateness() -> tuple[float, float]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            late = runner.run(_tick(1.0))
        return float(np.percentile(late, 50)), float(np.percentile(late, 99))

    idle = [lateness() for _ in range(runs)]
    with running("memory-intensive", "256MiB", vcpus=2):
        busy = [lateness() for _ in range(runs)]
    return [
        row(
            f"event loop's lateness, {name}, two busy vCPUs; reference: none",
            "us",
            [sample[i] for sample in busy],
            [sample[i] for sample in idle],
        )
        for i, name in enumerate(("p50", "p99"))
    ]


def rate(runs: int) -> list[Row]:
    asked = 40e6
    with running("uniform:rate=40MB/s", "256MiB", vcpus=2) as guest:
        values = [steps_per_s(guest, 1.0) * 4096 / 1e6 for _ in range(runs)]
    return [row("page visits at 40 MB/s", "MB/s", values, [asked / 1e6])]


def harvest(runs: int) -> list[Row]:
    values = []
    with running(ANYWHERE, "1GiB", cache=0) as guest:
        out = np.zeros(guest.n_pages, np.uint64)
        for _ in range(runs):
            time.sleep(0.3)
            start = time.perf_counter()
            guest.harvest(out)
            values.append((time.perf_counter() - start) * 1e3)
    return [row("harvest of 1 GiB while the guest runs", "ms", values)]


def tracker(runs: int) -> list[Row]:
    """The guest's speed while the kernel tracks its writes; reference: the log alone does.

    Both harvest; then the guest runs for a moment, and for as long again after it has been left
    alone.
    """
    rows = []
    for name, workload, options in (
        ("uniform over 1 GiB", ANYWHERE, {}),
        ("uniform over 1 GiB, no cache", ANYWHERE, {"cache": 0}),
        ("memory-intensive", "memory-intensive", {}),
    ):
        after: dict[bool, list[float]] = {True: [], False: []}
        steady: dict[bool, list[float]] = {True: [], False: []}
        with running(workload, "1GiB", **options) as guest:
            out = np.zeros(guest.n_pages, np.uint64)
            for turn in range(2 * runs):
                kernel = turn % 2 == 0
                if kernel:
                    guest.track_by_kernel()
                    guest.harvest(out)
                    time.sleep(TRACKED_S)
                guest.harvest(out)
                after[kernel].append(steps_per_s(guest, TRACKED_S) / 1e6)
                time.sleep(SETTLE_S)
                steady[kernel].append(steps_per_s(guest) / 1e6)
                guest.track_by_log()
        for when, figures in (("right after a harvest", after), ("left alone", steady)):
            rows.append(
                row(f"tracked by the kernel, {name}, {when}", "M/s", figures[True], figures[False])
            )
    return rows


def scan(runs: int) -> list[Row]:
    """Listing and protecting 1 GiB; reference: the log's harvest of the same pages."""
    rows = []
    config = GuestConfig(memory=2**30, cache=0, workload="uniform:lines=1")
    compile_kernels(config)
    guest = Guest(config, boot=True)
    try:
        guest.start()
        guest.track_by_kernel()
        assert guest.kernel_dirty is not None  # noqa: S101
        out = np.zeros(guest.n_pages, np.uint64)
        start = time.perf_counter()
        guest.harvest(out)
        first = (time.perf_counter() - start) * 1e3
        for share, visits in ((0.0, 0.0), (0.1, 0.105), (1.0, 15.0)):  # a page each, at random
            scans, harvests = [], []
            for _ in range(runs):
                guest.run_until([guest.steps()[0] + round(visits * guest.n_pages)])
                start = time.perf_counter()
                guest.kernel_dirty.scan(out)
                scans.append((time.perf_counter() - start) * 1e3)
                start = time.perf_counter()
                guest.kernel_dirty.log.harvest(out)
                harvests.append((time.perf_counter() - start) * 1e3)
            rows.append(
                row(f"scan of 1 GiB, {share:.0%} dirty; reference: the log", "ms", scans, harvests)
            )
        rows.append(row("first scan of 1 GiB, which protects all of it", "ms", [first]))
    finally:
        guest.close()
    return rows


BENCHES: dict[str, Callable[[int], list[Row]]] = {
    "hits": hits,
    "anywhere": anywhere,
    "counting": counting,
    "two-vcpus": two_vcpus,
    "pause": pause_latency,
    "loop": event_loop,
    "rate": rate,
    "harvest": harvest,
    "tracker": tracker,
    "scan": scan,
}


def rows(runs: int = 5, names: list[str] | None = None) -> list[Row]:
    """Run these benchmarks, by default all."""
    return [each for name in names or BENCHES for each in BENCHES[name](runs)]


if __name__ == "__main__":
    command("the guest", BENCHES, rows)
