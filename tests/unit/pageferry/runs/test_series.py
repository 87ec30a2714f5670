"""Runs one after another: order, failures, exit codes, interruption. The runs are made up."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import CancelledByUser, PageferryError, UsageError
from pageferry.common.process.status import Status
from pageferry.common.report.schema import Report
from pageferry.pair import LOOPBACK, PairResult, Route
from pageferry.runs.series import Case, RunAttempt, Series, Signals, worst_exit_code
from tests.support.plain_reports import report

End = PairResult | PageferryError
GOOD = PairResult(report(), 0, None)


class MadeUpRun:
    """Instead of two agents. ends: what each run comes to; a signal arrives during `signal_in`."""

    ends: list[End]
    signal_in: int | None
    made: list[tuple[MigrationConfig, Path | None]]

    def __init__(
        self,
        config: MigrationConfig,
        log_dir: Path | None,
        *,
        route: Route,
        say: Callable[[str], None],
    ) -> None:
        del say  # it says nothing
        assert route is LOOPBACK
        self.made.append((config, log_dir))
        self.interrupted = len(self.made) == self.signal_in

    def run(self, show: Callable[[Status], None]) -> PairResult:
        show(Status(phase="round 1"))
        end = self.ends[len(self.made) - 1]
        if isinstance(end, PageferryError):
            raise end
        return end


class Told:
    """What the series said."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.lines: list[str] = []


def run(
    monkeypatch: pytest.MonkeyPatch,
    *ends: End,
    cases: int = 2,
    runs: int = 1,
    signal_in: int | None = None,
    told: Told | None = None,
    log_dir: Path | None = None,
) -> Series:
    monkeypatch.setattr(MadeUpRun, "ends", list(ends), raising=False)
    monkeypatch.setattr(MadeUpRun, "signal_in", signal_in, raising=False)
    monkeypatch.setattr(MadeUpRun, "made", [], raising=False)
    monkeypatch.setattr("pageferry.runs.series._Run", MadeUpRun)
    told = told or Told()
    series = Series(
        [Case(f"case {n}", MigrationConfig(seed=n)) for n in range(cases)],
        runs,
        log_dir=log_dir,
        show=lambda status: told.phases.append(status.phase),
        finished=told.lines.append,
    )
    with Signals() as signals:
        series.run(signals)
    return series


def test_cases_take_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = Told()
    series = run(monkeypatch, *[GOOD] * 4, runs=2, told=told, log_dir=tmp_path)
    assert [config.seed for config, _ in MadeUpRun.made] == [0, 1, 0, 1]
    assert [folder and folder.name for _, folder in MadeUpRun.made] == [
        *("run-01", "run-02", "run-03", "run-04")
    ]
    assert told.phases[2] == "run 3 of 4 · case 0 · round 1"
    assert told.lines[3] == "run 4 of 4 · case 1: 100 ms down, 1,000 ms in all"
    assert series.labels == ["case 0, run 1", "case 1, run 1", "case 0, run 2", "case 1, run 2"]
    assert series.report_places(1) == [1, 3]
    assert series.exit_code == 0


def test_a_failed_run_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    lost = PairResult(None, 1, "the source agent was ended by SIGKILL")
    broken = PageferryError("the destination agent did not start: no reason given")
    series = run(monkeypatch, GOOD, lost, broken, GOOD, cases=4, told=told)
    assert [each.exit_code for each in series.attempts] == [0, 1, 1, 0]
    assert series.attempts[2].error == str(broken)
    assert series.reports == [GOOD.report, GOOD.report]
    assert series.labels == ["case 0", "case 3"]
    assert series.report_places(3) == [1]
    assert series.report_places(1) == []
    assert told.lines[1].endswith("case 1: failed: the source agent was ended by SIGKILL")
    assert series.exit_code == 1


def test_a_cancelled_run_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = PairResult(report(outcome="cancelled"), 130, "cancelled")
    series = run(monkeypatch, GOOD, cancelled, GOOD, cases=3, signal_in=2)
    assert len(MadeUpRun.made) == 2
    assert [each.case for each in series.attempts] == [0]
    assert series.exit_code == 130
    assert "1 of 3 runs" in series.interruption


def test_one_that_was_too_late_to_cancel_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    series = run(monkeypatch, GOOD, GOOD, GOOD, cases=3, signal_in=2)
    assert [each.case for each in series.attempts] == [0, 1]
    assert series.interrupted
    assert series.exit_code == 130


def test_one_that_was_cancelled_before_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    series = run(monkeypatch, CancelledByUser("cancelled before the migration began"), GOOD)
    assert series.attempts == []
    assert series.exit_code == 130


def test_a_run_that_gave_up_by_itself_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    gave_up = PairResult(report(outcome="cancelled"), 130, "its time was up")
    series = run(monkeypatch, gave_up, GOOD)
    assert len(series.attempts) == 2
    assert series.exit_code == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_runs(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    class Sends(Told):
        def __init__(self) -> None:
            super().__init__()
            self.lines = _SendingList(number)

    before = signal.getsignal(number)
    series = run(monkeypatch, GOOD, GOOD, told=Sends())
    assert len(series.attempts) == 1
    assert series.exit_code == 130
    assert signal.getsignal(number) is before


class _SendingList(list[str]):
    """Told that a run has finished, it sends this process a signal."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self._number = number

    def append(self, line: str) -> None:
        super().append(line)
        os.kill(os.getpid(), self._number)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((), 0),
        ((0, 0), 0),
        ((0, 1), 1),
        ((1, 3, 4), 3),
        ((1, 4, 0), 4),
        ((2, 2), 2),
        ((2, 1), 1),
        ((0, 2), 2),
        ((130, 0), 1),
    ],
)
def test_the_worst_exit_code(codes: tuple[int, ...], expected: int) -> None:
    assert worst_exit_code([RunAttempt(0, None, code, None) for code in codes]) == expected


def test_usage_errors_of_a_run_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    series = run(monkeypatch, UsageError("--congestion: no such thing"), GOOD)
    assert series.attempts[0].error == "--congestion: no such thing"
    assert series.exit_code == 2


def test_reports_are_those_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    first: Report = report(downtime_ms=1.0)
    second: Report = report(downtime_ms=2.0)
    series = run(monkeypatch, PairResult(first, 0, None), PairResult(second, 0, None))
    assert series.reports == [first, second]
    assert [each.report for each in series.of_case(1)] == [second]
