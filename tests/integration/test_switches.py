"""Each mechanism of three-path by itself: the cache, held write-backs, lines on the wire."""

from __future__ import annotations

import pytest

from tests.support.file_agent import migrate

# 16 MiB, of which a quarter keeps changing, four lines of a page: path 2.
GUEST = (
    *("--memory", "16MiB", "--max-bandwidth", "100MB/s", "--path3", "stop-and-copy"),
    *("--workload", "uniform:working-set=25%,rate=40MB/s,lines=4,write-share=50%"),
    *("--low", "1%", "--high", "90%", "--max-rounds", "3"),
)


@pytest.mark.parametrize("cache", ["0", "256KiB"])
@pytest.mark.parametrize("granularity", ["line", "page"])
@pytest.mark.parametrize("hold", ["--hold-write-backs", "--no-hold-write-backs"])
def test_nothing_is_lost_whatever_is_off(cache: str, granularity: str, hold: str) -> None:
    run = migrate(
        *GUEST, "--cache", cache, "--granularity", granularity, hold, "--line-tracker", "log"
    )
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.verified is True
    assert report.path == 2
    lined = sum(each.line_pages or 0 for each in report.rounds)
    assert (lined > 0) == (granularity == "line")
    assert (report.cache is None) == (cache == "0")
    if report.cache is not None and hold.startswith("--no"):
        assert report.cache.spills == 0


def test_without_a_cache_lines_are_known_to_the_log_alone() -> None:
    run = migrate(*GUEST, "--cache", "0")
    assert run.exit_code == 0, run.stderr
    assert run.report.lines_sent is None


def test_cache_aware_holds_the_limit() -> None:
    run = migrate(*GUEST, "--strategy", "cache-aware", "--downtime-limit", "100ms")
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.verified is True
    assert report.converged is True
    assert report.path is None
    assert {each.kind for each in report.rounds} <= {"full", "drain", "dirty", "final"}
