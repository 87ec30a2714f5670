"""Medians, spreads, ratios and what a row says of failed runs."""

from __future__ import annotations

import pytest

from pageferry.common.report.slowdown import below_half_ms, slowdown
from pageferry.runs.rows import Spread, SummaryRow, ratio, summarise
from pageferry.runs.series import RunAttempt
from tests.support.plain_reports import attempt, failed, postcopy, report, sample


def row(*attempts: RunAttempt, label: str = "a row") -> SummaryRow:
    return summarise(label, {"strategy": label}, attempts, range(len(attempts)))


def test_a_row_has_median_least_and_greatest() -> None:
    made = row(*(attempt(downtime_ms=ms) for ms in (30.0, 10.0, 14.0)))
    assert made.figures["downtime_ms"] == Spread(14.0, 10.0, 30.0)
    assert made.median("total_time_ms") == 1000.0
    assert (made.runs, made.completed, made.verified) == (3, 3, True)


def test_ratios_are_of_medians() -> None:
    first = row(attempt(downtime_ms=100.0, bytes_on_wire=1000))
    other = row(*(attempt(downtime_ms=ms, bytes_on_wire=3000) for ms in (39.0, 40.0, 90.0)))
    assert ratio(other, first, "downtime_ms") == 0.4
    assert ratio(other, first, "bytes_on_wire") == 3.0
    assert ratio(first, first, "total_time_ms") == 1.0


def test_no_ratio_to_nothing() -> None:
    good, bad = row(attempt()), row(failed())
    assert ratio(good, bad, "downtime_ms") is None
    assert ratio(bad, good, "downtime_ms") is None
    still = row(attempt(downtime_ms=0.0))
    assert ratio(good, still, "downtime_ms") is None


def test_a_failed_run_gives_no_figures_but_its_error() -> None:
    made = row(attempt(downtime_ms=10.0), failed(error="the link broke"), attempt(downtime_ms=20.0))
    assert made.figures["downtime_ms"] == Spread(15.0, 10.0, 20.0)
    assert (made.runs, made.completed) == (3, 2)
    assert made.errors == ("the link broke",)
    out = made.to_json(None)
    assert out["outcome"] == "failed"
    assert out["downtime_ms"] == 15.0
    assert out["downtime_ms_ratio"] is None


def test_a_row_of_failures() -> None:
    made = row(failed(error=None, exit_code=1), failed(error="no"), failed(error="no"))
    out = made.to_json(None)
    assert out["errors"] == ["exit code 1", "no"]
    assert out["outcome"] == "failed"
    assert out["verified"] is None
    for name in ("path", "rounds", "downtime_ms", "downtime_ms_spread", "guest_slowdown"):
        assert out[name] is None, name


def test_a_report_of_a_failed_run_has_no_say() -> None:
    broken = attempt(outcome="failed", exit_code=1, error="x", downtime_ms=None, verified=None)
    made = row(broken, attempt(downtime_ms=7.0))
    assert made.completed == 1
    assert made.median("downtime_ms") == 7.0
    assert made.verified is True


def test_one_that_was_not_verified_is_enough() -> None:
    made = row(attempt(), attempt(verified=False, exit_code=3, error="digests differ"))
    assert made.verified is False
    assert made.completed == 2
    assert made.errors == ("digests differ",)
    assert row(attempt(verified=None)).verified is None


def test_a_row_has_the_path_and_rounds_of_each_run() -> None:
    drained = ("full", "dirty", "drain", "drain", "final")
    made = row(attempt(path=2, kinds=drained), attempt(path=1), attempt(path=2, kinds=drained))
    out = made.to_json(None)
    assert (out["path"], out["paths"]) == (2, [2, 1, 2])
    assert (out["rounds"], out["drain_rounds"]) == (5, 2)


def test_json_has_ratios_to_the_baseline() -> None:
    first = row(attempt(), label="first")
    other = row(attempt(downtime_ms=25.0), label="other")
    out = other.to_json(first)
    assert out["label"] == out["strategy"] == "other"
    assert out["downtime_ms_ratio"] == 0.25
    assert out["downtime_ms_spread"] == [25.0, 25.0]
    assert out["bytes_on_wire"] == 1_000_000
    assert isinstance(out["bytes_on_wire"], int)
    assert out["runs"] == [0]


class TestSlowdown:
    def test_downtime_counts_as_slowdown(self) -> None:
        # 4500 of 5000 steps in the second that the migration took.
        assert slowdown(report()) == pytest.approx(0.1)

    def test_unknown_without_a_speed_before(self) -> None:
        made = report()
        made.guest.steps_per_s_before = 0.0
        assert slowdown(made) is None
        assert slowdown(report(total_time_ms=None)) is None

    def test_steps_at_the_destination_until_nothing_is_missing(self) -> None:
        # Resumed at 900 of 1000 ms; 1000 steps/s there, which is a fifth of its speed before.
        made = report(postcopy=postcopy(100.0))
        made.guest.timeline = [sample(950, 1000), sample(1050, 1000), sample(1150, 5000)]
        assert slowdown(made) == pytest.approx(1 - (4500 + 100) / 5000)

    def test_a_guest_that_was_stopped_before_the_end(self) -> None:
        made = report(postcopy=postcopy(100.0))  # of lazy copy: stopped at 950 of 1000 ms
        made.guest.timeline = [sample(920, 1000), sample(950, 5000)]
        assert slowdown(made) == pytest.approx(1 - (4500 + 20 + 150) / 4750)

    def test_below_half_of_its_speed(self) -> None:
        made = report(postcopy=postcopy(200.0))  # stopped at 700, resumed at 800 of 1000 ms
        source = [sample(-50, 0, "source"), sample(100, 2400, "source"), sample(690, 9e3, "source")]
        made.guest.timeline = [*source, sample(850, 2499), sample(950, 2500), sample(1050, 100)]
        assert below_half_ms(made) == pytest.approx(100 + 100 + 50 + 50)
        made.guest.steps_per_s_before = None
        assert below_half_ms(made) is None

    def test_a_gain_has_no_ratio_to_a_loss(self) -> None:
        gain = report(guest={"steps_during": 6000, "steps_per_s_before": 5000.0})
        one, two = (row(RunAttempt(0, each, 0, None)) for each in (report(), gain))
        assert (two.median("guest_slowdown") or 0) < 0
        assert ratio(two, one, "guest_slowdown") is None
        assert ratio(one, two, "guest_slowdown") is None

    def test_steps_at_the_source_are_counted_once(self) -> None:
        made = report(postcopy=postcopy(100.0))
        made.guest.timeline = [sample(950, 1000, "source"), sample(980, 2000), sample(1100, 0)]
        assert slowdown(made) == pytest.approx(1 - (4500 + 0.08 * 2000) / 5000)
