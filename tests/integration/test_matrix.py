"""Every strategy, workload, cache and number of vCPUs, as two real processes, verified."""

from __future__ import annotations

import itertools
import os

import pytest

from tests.integration.harness import migrate

STRATEGIES = ("stop-and-copy", "pre-copy", "three-path")
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
    """Each workload under each cache x vCPUs, strategies in turn: every pair occurs."""
    out = []
    for row, workload in enumerate(WORKLOADS):
        for column, (cache, vcpus) in enumerate(itertools.product(CACHES, VCPUS)):
            if (row + column) % 2 == 0:  # half of them: each workload twice, opposite corners
                out.append((STRATEGIES[(row + column // 2) % 3], workload, cache, vcpus))
    return out


CASES = WHOLE if os.environ.get("PAGEFERRY_TEST_FULL") else covering()


@pytest.mark.parametrize(("strategy", "workload", "cache", "vcpus"), CASES)
def test_completes_and_verifies(strategy: str, workload: str, cache: str, vcpus: str) -> None:
    run = migrate(
        *("--strategy", strategy, "--workload", workload, "--cache", cache, "--vcpus", vcpus),
        *("--memory", "64MiB", "--max-bandwidth", "400MB/s", "--max-rounds", "4"),
    )
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.outcome == "completed"
    assert report.verified is True
    assert report.digest_source == report.digest_dest
    assert report.strategy == strategy
    assert report.rounds[-1].kind == "final"
    assert report.guest.runs_at == "dest"
    assert report.guest.steps_after > 0
    assert (report.cache is None) == (cache == "0")
    assert (report.path in (1, 2, 3)) == (strategy == "three-path")
    # Every page went at least once, with content or as a zero.
    assert report.pages_sent + report.zero_pages - report.pages_resent == 64 * 256
    agents = {event.agent for event in report.events}
    assert agents == {"source", "dest"}
    times = [event.t_ms for event in report.events]
    assert times == sorted(times)
