"""Every strategy, workload, cache and number of vCPUs, as two real processes, verified."""

from __future__ import annotations

import itertools

import pytest

from tests.support.file_agent import migrate
from tests.support.known import known
from tests.support.tiers import FULL

STRATEGIES = ("stop-and-copy", "pre-copy", "three-path", "cache-aware")
WORKLOADS = (
    "idle",
    "web-browsing",
    "matrix-multiply",
    "game-server",
    "io-intensive",
    "memory-intensive",
    "uniform",
    "zipf",
    "sequential",
)
CACHES = ("4MiB", "0")
VCPUS = ("1", "2")
WHOLE = list(itertools.product(STRATEGIES, WORKLOADS, CACHES, VCPUS))


def covering() -> list[tuple[str, str, str, str]]:
    """Each workload once; strategies, caches and vCPUs in turn: every pair of them occurs."""
    return [
        (STRATEGIES[row % 4], workload, CACHES[row // 4 % 2], VCPUS[(row // 4 + row // 2) % 2])
        for row, workload in enumerate(WORKLOADS)
    ]


CASES = WHOLE if FULL else covering()
# As much as takes some rounds, and some faults, at 400 MB/s. All that a guest has done is done once
# more at the source, which verifies it.
MEMORY, PAGES = ("64MiB", 64 * 256) if FULL else ("16MiB", 16 * 256)
WARMUP = "100ms" if FULL else "20ms"


POSTCOPY = ("post-copy", "lazy-copy", "hybrid", "three-path")
MECHANISMS = ("kernel", "software")
WHOLE_POSTCOPY = list(itertools.product(POSTCOPY, WORKLOADS, MECHANISMS, VCPUS))


def covering_postcopy() -> list[tuple[str, str, str, str]]:
    """Each workload once; every strategy under both mechanisms, and under both numbers of vCPUs."""
    return [
        (POSTCOPY[row % 4], workload, MECHANISMS[row // 4 % 2], VCPUS[(row // 4 + row // 2) % 2])
        for row, workload in enumerate(WORKLOADS)
    ]


POSTCOPY_CASES = WHOLE_POSTCOPY if FULL else covering_postcopy()


@pytest.mark.parametrize(("strategy", "workload", "mechanism", "vcpus"), POSTCOPY_CASES)
def test_runs_before_its_memory_is_there(
    strategy: str, workload: str, mechanism: str, vcpus: str
) -> None:
    run = migrate(
        *("--strategy", strategy, "--workload", workload, "--faults", mechanism),
        *("--vcpus", vcpus, "--memory", MEMORY, "--max-bandwidth", "400MB/s"),
        # Low thresholds: three-path and hybrid are to switch whatever the workload does.
        *("--low", "0%", "--high", "0%", "--postcopy-after", "rounds=0"),
        warmup=WARMUP,
    )
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.verified is True
    assert report.guest.runs_at == "dest"
    postcopy = report.postcopy
    assert postcopy is not None
    assert postcopy.mechanism == mechanism
    moved = postcopy.pages_pulled + postcopy.pages_pushed
    first_round = sum(each.pages + each.zero_pages for each in report.rounds)
    if strategy == "lazy-copy":
        assert postcopy.pages_pushed == 0
        assert moved + postcopy.pages_never_moved == PAGES
    elif strategy == "three-path":
        assert report.path == 3
        assert first_round == PAGES
        assert moved + known(postcopy.duplicates) == report.pages_resent
    else:
        assert moved == PAGES
    # A page travels twice only where a push and a pull crossed.
    sent = report.pages_sent + report.zero_pages - first_round
    arrived = moved + known(postcopy.duplicates)
    assert sent >= arrived if strategy == "lazy-copy" else sent == arrived
    if postcopy.faults:
        assert postcopy.fault_latency_us is not None
        assert 0 < postcopy.fault_latency_us.p50 <= known(postcopy.fault_latency_us.max)
    if strategy != "lazy-copy":
        assert postcopy.missing[-1].pages == 0


@pytest.mark.parametrize(("strategy", "workload", "cache", "vcpus"), CASES)
def test_each_combination_completes_and_verifies(
    strategy: str, workload: str, cache: str, vcpus: str
) -> None:
    run = migrate(
        *("--strategy", strategy, "--workload", workload, "--cache", cache, "--vcpus", vcpus),
        *("--memory", MEMORY, "--max-bandwidth", "400MB/s", "--max-rounds", "4"),
        *("--path3", "stop-and-copy"),
        warmup=WARMUP,
    )
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.outcome == "completed"
    assert report.verified is True
    assert report.digest_source == report.digest_dest
    assert report.strategy == strategy
    assert report.rounds[-1].kind == "final"
    assert report.guest.runs_at == "dest"
    assert known(report.guest.steps_after) > 0
    assert (report.cache is None) == (cache == "0")
    assert (report.path in (1, 2, 3)) == (strategy == "three-path")
    # Every page went at least once, with content or as a zero.
    assert report.pages_sent + report.zero_pages - report.pages_resent == PAGES
    agents = {event.agent for event in report.events}
    assert agents == {"source", "dest"}
    times = [event.t_ms for event in report.events]
    assert times == sorted(times)
