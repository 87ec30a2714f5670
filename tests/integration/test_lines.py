"""Pages of which little changed travel as their lines, and arrive exactly."""

from __future__ import annotations

from pageferry.common.report.schema import Report
from tests.support.file_agent import migrate

SPARSE = ("--workload", "io-intensive:lines=1,rate=80MB/s", "--seed", "7")


def moved(granularity: str) -> Report:
    run = migrate(
        *(*SPARSE, "--granularity", granularity, "--memory", "64MiB"),
        *("--path3", "stop-and-copy", "--low", "0%", "--high", "100%", "--max-rounds", "3"),
    )
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.verified is True
    assert report.path == 2
    return report


def test_sparse_writes_cost_a_fifth_at_most_of_what_pages_cost() -> None:
    drained = {}
    for granularity in ("page", "line"):
        report = moved(granularity)
        rounds = [each for each in report.rounds if each.kind == "drain"]
        # Path 2 begins with a round of what is in memory, whose bytes are saved by lines, too: the
        # rounds that drain are then shorter, and less is dirtied meanwhile.
        assert sum(each.pages for each in rounds) > 0
        drained[granularity] = sum(each.bytes for each in rounds)
        by_line = sum(each.line_pages or 0 for each in rounds)
        assert (by_line > 0) == (granularity == "line")
        assert (report.bytes_saved is None) == (granularity == "page")  # nobody asked for lines
        assert ((report.bytes_saved or 0) > 0) == (granularity == "line")
    assert drained["page"] >= 5 * drained["line"]
