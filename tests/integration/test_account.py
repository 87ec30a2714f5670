"""What a report says of a run's parts must add up, and its estimate of itself must be close."""

from __future__ import annotations

import pytest

from tests.support.file_agent import migrate
from tests.support.known import known
from tests.support.tiers import some

RUNS = {
    "path 1": ("--workload", "web-browsing", "--path3", "stop-and-copy"),
    "path 2": ("--workload", "matrix-multiply", "--path3", "stop-and-copy"),
    "path 3": ("--workload", "memory-intensive"),
    "pre-copy": ("--strategy", "pre-copy", "--workload", "zipf:rate=20MB/s"),
    "post-copy": ("--strategy", "post-copy", "--workload", "uniform:rate=20MB/s"),
    "hybrid": ("--strategy", "hybrid", "--workload", "memory-intensive"),
    "stop-and-copy": ("--strategy", "stop-and-copy"),
}


@pytest.mark.parametrize("way", some(list(RUNS), 2))
def test_the_parts_add_up(way: str) -> None:
    run = migrate(*RUNS[way], "--memory", "32MiB", "--max-bandwidth", "100MB/s", "--count-writes")
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.downtime_ms is not None
    assert sum(part.ms for part in report.downtime_parts) == pytest.approx(report.downtime_ms)
    pages = report.pages
    assert pages is not None
    # A page is counted where it was sent: in a round, or once when it was missing.
    moved = 0 if report.postcopy is None else report.postcopy.pages_pulled
    moved += 0 if report.postcopy is None else report.postcopy.pages_pushed
    in_rounds = sum(each.pages + each.zero_pages for each in report.rounds)
    assert sum(pages.sends) == in_rounds + moved
    by_round = [column for column in pages.activity if column.phase != "post-copy"]
    assert [sum(each.sent) for each in by_round] == [
        each.pages + each.zero_pages for each in report.rounds
    ]
    # What the cache held when the migration began may be written back during it.
    assert known(pages.write_backs_total) <= known(pages.writes_total) + 4 * 2**20 // 64
    assert sum(known(pages.writes)) == pages.writes_total
    taken = [each for each in report.estimates if each.taken]
    assert [each.name for each in taken] == [way]
    assert {"path 1", "path 2", "path 3"} <= {each.name for each in report.estimates}
    # Tiny runs on a busy machine: their estimate is of the right kind, which is all that a test
    # of seconds can say. How close it comes is measured on larger ones.
    assert taken[0].error_bytes == pytest.approx(0, abs=0.5)
    assert report.oracle is not None
    assert report.oracle.bytes_ratio > 0.99
    assert report.oracle.downtime_ratio >= 1
