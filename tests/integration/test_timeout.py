"""`--timeout` and what is done then; the guest is verified whatever it is."""

from __future__ import annotations

import pytest

from pageferry.common.report.schema import Report
from tests.support.file_agent import migrate
from tests.support.harness import Run

# All of memory once takes a second and a half, so that the time is over within the first round.
GUEST = (*("--memory", "32MiB", "--workload", "uniform:working-set=4MiB,rate=20MB/s,scatter=true"),)


def timed(
    action: str,
    *more: str,
    strategy: str = "pre-copy",
    timeout: str = "400ms",
    rate: str = "20MB/s",
) -> Run:
    options = ("--strategy", strategy, "--timeout", timeout, "--max-bandwidth", rate, *more)
    return migrate(*GUEST, "--timeout-action", action, *options)


def last_decision(report: Report) -> tuple[str, str]:
    return report.decisions[-1].decision, report.decisions[-1].reason


def test_cancel_leaves_the_guest_at_the_source() -> None:
    run = timed("cancel")
    assert run.exit_code == 130
    assert "--timeout: cancelled after 400ms" in run.stderr
    report = run.report
    assert report.outcome == "cancelled"
    assert report.error is not None
    assert "--timeout" in report.error
    assert report.guest.runs_at == "source"


def test_cancel_while_the_guest_is_stopped_for_its_last_pages() -> None:
    run = timed("cancel", strategy="stop-and-copy")
    assert run.exit_code == 130
    assert run.report.guest.runs_at == "source"


@pytest.mark.parametrize("granularity", ["page", "line"])
def test_stop_and_copy_cuts_the_round_short_and_verifies(granularity: str) -> None:
    run = timed("stop-and-copy", "--granularity", granularity)
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.verified is True
    name, reason = last_decision(report)
    assert name == "StopAndCopy"
    assert "--timeout: 400ms are over" in reason
    # The first round was cut short, and what it left went in the stop: each page once at least.
    first, final = report.rounds
    assert (first.kind, final.kind) == ("full", "final")
    assert first.pages + first.zero_pages < 32 * 256
    assert report.pages_sent + report.zero_pages - report.pages_resent == 32 * 256


def test_post_copy_cuts_the_round_short_and_verifies() -> None:
    run = timed("post-copy")
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.verified is True
    assert last_decision(report)[0] == "SwitchToPostCopy"
    assert report.postcopy is not None
    assert report.rounds[0].pages < 32 * 256
    assert report.postcopy.missing[-1].pages == 0


def test_a_migration_that_is_over_before() -> None:
    run = timed("post-copy", rate="unlimited", timeout="100s")
    assert run.exit_code == 0, run.stderr
    assert run.report.postcopy is None or run.report.postcopy.faults == 0
    assert "timeout" not in {event.event for event in run.report.events}
