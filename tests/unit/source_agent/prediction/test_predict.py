"""From what was measured to what is said, and how true that was."""

from __future__ import annotations

import math

import pytest

from pageferry.common.config.model import MigrationConfig
from pageferry.common.report.sections.prediction import PredictionReport
from pageferry.common.strategy.prediction import STRATEGIES, Look, Measurement
from pageferry.common.terminal.prediction import notes, prediction_row, prediction_table
from pageferry.common.wire.pacing import CREDIT_S
from pageferry.source_agent.prediction.predict import (
    Bandwidth,
    bandwidth,
    link_of,
    prediction_check,
    prediction_report,
)

PAGES = 16384  # 64 MiB
LOOKS = tuple(Look(0.125 * n, 100 * n, 200 * n, 410400 * n, 400000 * n, 10400 * n) for n in (1, 8))
MEASURED = Measurement(PAGES, 384, LOOKS, 0.001, 5000.0, 4900.0)


def made(**given: object) -> PredictionReport:
    config = MigrationConfig.model_validate({"predict": True, "memory": "64MiB"} | given)
    return prediction_report(config, MEASURED, bandwidth(config, None), 0.0)


class TestBandwidth:
    def test_the_limit_is_assumed_where_it_is_the_least(self) -> None:
        config = MigrationConfig(max_bandwidth=1e8)
        assert bandwidth(config, None) == Bandwidth(1e8, "limit")
        assert bandwidth(config, 5e8) == Bandwidth(1e8, "limit", 5e8)

    def test_a_host_that_falls_short_of_it(self) -> None:
        assert bandwidth(MigrationConfig(max_bandwidth=1e9), 4e8) == Bandwidth(4e8, "loopback", 4e8)

    def test_unlimited_is_what_was_probed(self) -> None:
        assert bandwidth(MigrationConfig(max_bandwidth=math.inf), 2e9).source == "loopback"

    @pytest.mark.parametrize(("assumed", "source"), [(5e7, "assumed"), (2e8, "limit")])
    def test_what_is_assumed_counts_where_it_is_less(self, assumed: float, source: str) -> None:
        config = MigrationConfig(predict=True, max_bandwidth=1e8, assume_bandwidth=assumed)
        found = bandwidth(config, None)
        assert (found.rate_Bps, found.source) == (min(assumed, 1e8), source)


class TestReport:
    def test_every_strategy_and_its_curve(self) -> None:
        report = made()
        assert tuple(each.strategy for each in report.strategies) == STRATEGIES
        assert [(look.t_ms, look.pages, look.lines) for look in report.curve] == [
            (125, 100, 200),
            (1000, 800, 1600),
        ]
        assert report.dirty_rate == 800 * 4096
        assert report.measured_ms == 1000
        assert report.zero_pages == 384
        assert (report.steps_per_s_before, report.steps_per_s_while) == (5000, 4900)
        assert report.choice in STRATEGIES
        assert PredictionReport.model_validate_json(report.to_json()) == report

    def test_all_of_memory_is_its_pages_in_frames(self) -> None:
        stop = made().strategies[0]
        frame = 16 + 8 + 8  # header, extent, checksum
        assert stop.bytes == 16000 * 4096 + 64 * frame
        assert made(checksum=False).strategies[0].bytes == 16000 * 4096 + 64 * (frame - 8)

    def test_nothing_to_probe_an_unlimited_way_with(self) -> None:
        report = made(max_bandwidth="unlimited")
        assert report.bandwidth is None
        assert PredictionReport.model_validate_json(report.to_json()) == report
        assert "Bandwidth: unlimited, the limit." in notes(report)

    def test_only_lazy_copy_has_a_note(self) -> None:
        assert [each.strategy for each in made().strategies if each.note] == ["lazy-copy"]

    def test_a_guest_that_is_faster_than_the_link(self) -> None:
        slow, fast = made(max_bandwidth="1MB/s", max_rounds=2), made()
        assert [each.strategy for each in slow.strategies if not each.converges] == ["pre-copy"]
        said = [note for note in notes(slow) if "does not converge" in note]
        assert [note.split()[0] for note in said] == ["pre-copy"]
        assert "after 3 of them it stops" in said[0]  # the full one, and two
        assert all(each.converges for each in fast.strategies)
        assert "converge" not in " ".join(notes(fast))

    def test_what_is_not_predicted_is_said(self) -> None:
        assert made().not_predicted == []
        said = made(dirty_limit="1MB/s", timeout="3s", inject=["paused:stall:10ms"]).not_predicted
        assert [each.split()[0].rstrip(":") for each in said] == [
            "--dirty-limit",
            "--timeout",
            "--inject",
        ]

    def test_a_round_trip_lengthens_rounds_and_the_stop(self) -> None:
        config = MigrationConfig()
        near, far = link_of(config, 1e8, 0.0), link_of(config, 1e8, 0.1)
        assert far.round_s - near.round_s == pytest.approx(0.1)
        assert far.switchover_s - near.switchover_s == pytest.approx(0.1)

    def test_nothing_goes_at_once_without_a_limit(self) -> None:
        config = MigrationConfig(max_bandwidth=math.inf)
        assert link_of(config, 2e9, 0.0).burst_bytes == 0
        assert link_of(MigrationConfig(), 1e8, 0.0).burst_bytes == CREDIT_S * 1e8


class TestCheck:
    def test_how_true_it_was(self) -> None:
        report = made()
        said = report.strategies[1]
        check = prediction_check(
            report, "pre-copy", said.total_time_ms / 2, said.downtime_ms - 1, said.bytes
        )
        assert check is not None
        assert check.total_time_error == pytest.approx(1.0)
        assert check.total_time_error_ms == pytest.approx(said.total_time_ms / 2)
        assert check.downtime_error_ms == pytest.approx(1.0)
        assert check.bytes_error == 0

    @pytest.mark.parametrize(("total", "down"), [(None, 1.0), (1.0, None), (0.0, 1.0), (1.0, -0.1)])
    def test_a_guest_that_did_not_move(self, total: float | None, down: float | None) -> None:
        assert prediction_check(made(), "pre-copy", total, down, 1) is None


class TestWords:
    def test_the_table_marks_the_choice(self) -> None:
        report = made()
        table = prediction_table(report)
        names = list(table.columns[0].cells)
        assert len(names) == len(STRATEGIES)
        assert [name for name in names if str(name).endswith(" *")] == [f"{report.choice} *"]

    def test_notes_say_what_was_assumed_and_what_it_cost_the_guest(self) -> None:
        text = "\n".join(notes(made(assume_bandwidth="50MB/s", timeout="3s")))
        assert "Bandwidth: 50 MB/s, --assume-bandwidth." in text
        assert "4,900 steps/s while it was measured, 5,000 before (-2.0 %)" in text
        assert "Not predicted: --timeout 3s" in text

    def test_the_row_compares_the_prediction_with_the_run(self) -> None:
        report = made()
        said = report.strategies[1]
        check = prediction_check(
            report, "pre-copy", said.total_time_ms, said.downtime_ms + 1, said.bytes
        )
        row = prediction_row(report.model_copy(update={"taken": check}))
        assert "in all (+0.0 %)" in row
        assert "-1 ms" in row
        assert "no figures" in prediction_row(report)
