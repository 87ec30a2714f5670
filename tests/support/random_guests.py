"""Random migrations for virtual time: guest, cache, link and limit, drawn from a seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

from pageferry.common.config.model import MigrationConfig
from pageferry.common.units import PAGE_SIZE
from pageferry.sim.conditions import simulated_conditions
from pageferry.sim.link import SimulatedLink, parse_link
from pageferry.sim.reporting import SimulatedRun, play

STEADY = ("uniform", "zipf", "sequential", "memory-intensive", "io-intensive", "matrix-multiply")
BURSTS = ("web-browsing", "game-server")


@dataclass(frozen=True)
class RandomPoint:
    """A guest over a link, whichever strategy moves it."""

    seed: int
    workload: str
    options: dict[str, Any]
    link: SimulatedLink

    @property
    def limit_s(self) -> float:
        return float(self.options["downtime_limit"])

    def play(self, strategy: str, **more: Any) -> SimulatedRun:
        config = MigrationConfig.model_validate(self.options | {"strategy": strategy} | more)
        return play(config, simulated_conditions(config, self.link), faults=False)


def random_point(seed: int) -> RandomPoint:
    """Draw a point; the same seed gives the same one."""
    rng = random.Random(seed)  # noqa: S311 - it is to be drawn again

    memory = int(2 ** rng.uniform(25, 33)) // PAGE_SIZE * PAGE_SIZE
    cache = 2 ** min(rng.randrange(16, 25), int(math.log2(memory / 4)))
    rate_Bps = _between(rng, 5e6, 2e9)
    name = rng.choice([*STEADY, *STEADY, *STEADY, *BURSTS, "uniform", "zipf", "idle"])
    options = {
        "memory": memory,
        "cache": rng.choice([0, cache, cache, cache, cache]),
        "workload": _workload(rng, name, memory, rate_Bps),
        "max_bandwidth": rate_Bps,
        "downtime_limit": _between(rng, 0.003, 2.0),
        "granularity": rng.choice(["line", "line", "page"]),
        "vcpus": rng.choice([1, 1, 2]),
        "max_rounds": rng.choice([3, 9, 9, 30]),
        "path3": "stop-and-copy",
    }
    return RandomPoint(seed, name, options, parse_link(f"rtt={_between(rng, 0.1, 100):.3f}ms"))


def _between(rng: random.Random, least: float, most: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return math.exp(rng.uniform(math.log(least), math.log(most)))


def _workload(rng: random.Random, name: str, memory: int, rate_Bps: float) -> str:
    size = max(int(_between(rng, 0.002, 1.0) * memory), 2 * PAGE_SIZE) // PAGE_SIZE * PAGE_SIZE
    options = {"working-set": str(size)}
    rate, lines = (
        f"{int(_between(rng, 0.02, 3.0) * rate_Bps)}B/s",
        str(rng.choice([1, 1, 2, 4, 8, 16, 64])),
    )
    if name in ("uniform", "zipf", "sequential"):
        options |= {
            "rate": rate,
            "lines": lines,
            "write-share": str(rng.choice([1, 1, 0.7, 0.5, 0.3])),
            "scatter": rng.choice(["true", "false"]),
        }
    if name == "zipf":
        options["skew"] = f"{rng.uniform(0.3, 1.5):.2f}"
    elif name == "memory-intensive":
        options["rate"] = rate
    elif name == "io-intensive":
        options |= {"rate": rate, "lines": lines}
    elif name == "web-browsing":
        options["think"] = f"{_between(rng, 0.2, 10):.2f}s"
    elif name == "game-server":
        options |= {"ticks": str(rng.choice([5, 10, 20, 60])), "lines": lines}
    elif name in ("idle", "matrix-multiply"):
        return name
    return f"{name}:" + ",".join(f"{key}={value}" for key, value in options.items())
