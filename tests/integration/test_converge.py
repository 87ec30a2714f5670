"""Guests that write too fast to be caught up with, slowed down until they are."""

from __future__ import annotations

import pytest

from tests.support.file_agent import migrate
from tests.support.known import known

FLAT_OUT = (
    *("--workload", "sequential:working-set=32MiB,lines=64", "--cache", "0", "--memory", "64MiB"),
    *("--strategy", "pre-copy", "--max-rounds", "40", "--downtime-limit", "150ms"),
)


def test_rounds_shrink_when_the_guest_is_throttled() -> None:
    run = migrate(*FLAT_OUT, "--auto-converge", "--max-cpu-throttle", "99.9%")
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.verified is True
    shares = [known(each.throttle) for each in report.rounds if each.kind != "final"]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert report.guest.throttle_peak == shares[-1]
    assert shares[-1] >= 0.2
    raises = [each for each in report.events if each.event == "throttle"]
    assert getattr(raises[0], "share") == 0.2  # noqa: B009 (an event's own field)
    assert known(report.guest.slowed_ms) > 0
    assert report.guest.lost is not None
    assert report.decisions[-1].decision == "StopAndCopy"
    assert "fits in" in report.decisions[-1].reason
    assert report.rounds[-1].pages < report.rounds[1].pages


def test_a_dirty_limit_below_the_links_rate_does_it_too() -> None:
    run = migrate(*FLAT_OUT, "--dirty-limit", "30MB/s")
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.verified is True
    assert known(report.guest.slowed_ms) > 0
    assert report.guest.throttle_peak is None  # nobody asked for auto-converge
    assert "fits in" in report.decisions[-1].reason
    # It holds in the first round already: not all that the guest writes to has become stale.
    assert report.rounds[0].dirty_pages_after < 32 * 256


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            ("--auto-converge", "--dirty-limit", "1MB/s"),
            "--auto-converge and --dirty-limit exclude",
        ),
        (
            ("--dirty-limit", "100B/s"),
            "--dirty-limit: 100B/s is too slow: expected a rate from 4.096kB/s",
        ),
        (
            ("--cpu-throttle-initial", "60%", "--max-cpu-throttle", "50%"),
            "--cpu-throttle-initial 60% is above --max-cpu-throttle 50%",
        ),
        (
            ("--max-cpu-throttle", "100%"),
            "--max-cpu-throttle: '100%' is too large: expected a share above 0% and at most 99.99%",
        ),
    ],
)
def test_bad_usage_is_refused_by_name(options: tuple[str, ...], complaint: str) -> None:
    run = migrate(*options)
    assert run.exit_code == 2
    assert complaint in run.complaint
