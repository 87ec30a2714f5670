"""How long a pause takes: from the request to all vCPUs stopped.

A vCPU looks at its control word between two quanta, so that half a quantum is what a pause takes on
average, and one is the most that it has to, where a processor is free.
"""

from __future__ import annotations

import time

import numpy as np

from scripts.bench_guest import running
from scripts.bench_rows import Bench, Effort, Row, row

PAUSES = 200
MEMORY = 256 * 2**20
QUANTUM_S = 0.2  # for so long the guest runs while its quanta are counted


def pauses(workload: str, vcpus: int, effort: Effort) -> list[Row]:
    """One request after another, a few ms of running in between."""
    found: list[list[float]] = []
    quanta = []
    with running(effort, workload, MEMORY, vcpus=vcpus) as guest:
        for _ in range(effort.runs):
            cpu_s, begun = guest.cpu_s(), guest.quanta()
            time.sleep(effort.seconds(QUANTUM_S))
            quanta.append((guest.cpu_s() - cpu_s) / (guest.quanta() - begun) * 1e6)
            took = []
            for i in range(effort.count(PAUSES)):
                asked = time.monotonic_ns()
                guest.pause()
                took.append((time.monotonic_ns() - asked) / 1e3)
                guest.resume()
                time.sleep(0.003 + 0.00037 * (i % 8))  # in no step with the quanta
            found.append(took)
    name = f"pause, {workload.partition(':')[0]}, {vcpus} busy vCPU{'s' * (vcpus > 1)}"
    return [
        row(
            f"{name}, {what}",
            "us",
            [float(np.percentile(took, q, method="inverted_cdf")) for took in found],
            quanta,
            against="a quantum",
        )
        for what, q in (("p50", 50), ("p99", 99), ("most", 100))
    ]


def one(effort: Effort) -> list[Row]:
    return pauses("memory-intensive", 1, effort) + pauses("uniform:scatter=true", 1, effort)


def two(effort: Effort) -> list[Row]:
    return pauses("memory-intensive", 2, effort)


BENCHES: dict[str, Bench] = {"one": one, "two": two}
