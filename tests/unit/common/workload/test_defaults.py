"""What a named workload writes by default does not depend on the guest's cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest.seeds import regions
from pageferry.common.guest.workloads import visits
from pageferry.common.guest.workloads.base import OWN, Plan, Workload
from pageferry.common.guest.workloads.making import make_workload
from pageferry.common.guest.workloads.visiting import VisitWorkload
from pageferry.common.workload.region import Region
from pageferry.common.workload.registry import WORKLOADS, parse_workload
from pageferry.sim.workloads import working_set

MEMORY = "64MiB"
CACHES: tuple[str | int, ...] = (0, "256KiB", "4MiB", "32MiB")
NAMED = [name for name, spec in WORKLOADS.items() if spec.complete]


def config_of(name: str, cache: str | int, **more: Any) -> GuestConfig:
    return GuestConfig.model_validate({"workload": name, "cache": cache, "memory": MEMORY, **more})


def plans(workload: Workload, config: GuestConfig) -> list[tuple[object, ...]]:
    """All that kernels are given. Left out: how far ahead the host's processor fetches a page."""
    out: list[tuple[object, ...]] = []
    for region in regions(config):
        plan = workload.plan(region)
        words = plan.params(region)
        if isinstance(workload, VisitWorkload):
            words[visits.AHEAD] = 0
        out.append((plan.pages, plan.pace, words.tobytes(), plan.table.tobytes()))
    return out


@pytest.mark.parametrize("vcpus", [1, 2])
@pytest.mark.parametrize("name", NAMED)
def test_kernels_are_given_the_same_whatever_the_cache(name: str, vcpus: int) -> None:
    chosen = parse_workload(name)
    seen = {
        tuple(plans(make_workload(chosen), config_of(name, cache, vcpus=vcpus))) for cache in CACHES
    }
    assert len(seen) == 1


@pytest.mark.parametrize("name", NAMED)
def test_it_writes_the_same_in_virtual_time_whatever_the_cache(name: str) -> None:
    seen = set()
    for cache in CACHES:
        guest, zero = working_set(config_of(name, cache), by_line=True)
        writes = [guest.stale(0.0, seconds) for seconds in (0.01, 0.1, 1.0, 10.0)]
        sizes = [(each.pages, each.lines, each.bytes) for each in writes]
        seen.add((guest.steps_per_s, guest.pages, zero, *sizes))
    assert len(seen) == 1


@pytest.mark.parametrize("own", [False, True])
def test_one_that_does_depend_on_it_is_noticed(own: bool) -> None:
    class Greedy(Workload):
        """A working set of four caches, or so many lines."""

        def plan(self, region: Region) -> Plan:
            size = max(1, region.cache // 1024)
            return Plan(pages=1, own=(size,)) if own else Plan(pages=size)

    seen = {tuple(plans(Greedy({}), config_of("uniform", cache))) for cache in CACHES}
    assert len(seen) == len(CACHES)


def test_what_is_left_out_is_that_one_word() -> None:
    """Without this, the comparison above would pass over the words of a workload that has moved."""
    region = regions(config_of("uniform", 0))[0]
    plan = make_workload(parse_workload("uniform")).plan(region)
    assert plan.own[visits.AHEAD - OWN] == visits.AHEAD_VISITS
    (changed,) = np.nonzero(
        plan.params(region)
        != make_workload(parse_workload("uniform"))
        .plan(regions(config_of("uniform", "64MiB"))[0])
        .params(region)
    )
    assert changed.tolist() == [visits.AHEAD]
