"""Several migrations one after another: progress, interruption, and what became of each.

A run that fails is a `RunAttempt` like any other, and the series continues. Ctrl-C (or SIGTERM, or
SIGHUP) ends it: during a run the signal goes to that run's agents, as in `pageferry migrate`;
between runs it is noted. What has finished by then stays in `attempts`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pageferry.common.command_line.run import OutputOptions
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import (
    EXIT_CANCELLED,
    EXIT_FAILED,
    EXIT_IN_DOUBT,
    EXIT_NOT_VERIFIED,
    EXIT_OK,
    EXIT_USAGE,
    CancelledByUser,
    PageferryError,
)
from pageferry.common.process import signals
from pageferry.common.process.notices import notify_once
from pageferry.common.process.status import Status, StatusPipe
from pageferry.common.report.schema import Report
from pageferry.common.terminal.progress import form_of
from pageferry.net.options import NetOptions
from pageferry.net.run import Network
from pageferry.pair import NOT_BEGUN, Pair, PairResult


@dataclass(frozen=True, slots=True)
class Case:
    """A configuration that is run, once or several times: a row of the table.

    Attributes:
        label: For people.
        config: What is run.
    """

    label: str
    config: MigrationConfig


@dataclass(frozen=True, slots=True)
class RunAttempt:
    """One run of a case.

    Attributes:
        case: The case's index.
        report: None where it failed without one.
        exit_code: 0, or how it failed.
        error: What went wrong, in one line; None where nothing did.
    """

    case: int
    report: Report | None
    exit_code: int
    error: str | None

    @property
    def completed(self) -> bool:
        """Whether there are figures: verified or not, the guest has moved."""
        return self.report is not None and self.report.outcome == "completed"


def worst_exit_code(attempts: Sequence[RunAttempt]) -> int:
    """Compute the exit code of several runs.

    Args:
        attempts: The runs.

    Returns:
        0 if all is well, else the worst: not verified, in doubt, failed; bad input only where no
        run failed in another way.
    """
    codes = {attempt.exit_code for attempt in attempts} - {EXIT_OK}
    for code in (EXIT_NOT_VERIFIED, EXIT_IN_DOUBT):
        if code in codes:
            return code
    if not codes:
        return EXIT_OK
    return EXIT_USAGE if codes == {EXIT_USAGE} else EXIT_FAILED


def announce(runs: int, seconds: float, output: OutputOptions) -> None:
    """Say on standard error how many runs there are, and about how long they will take.

    Args:
        runs: How many.
        seconds: All of them together; nothing is measured.
        output: Nothing is said where it is quiet.
    """
    if not output.quiet:
        text = f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
        print(f"{runs} runs, about {text}", file=sys.stderr, flush=True)


class Signals:
    """A flag that a signal sets while this is entered, unless a run takes it for its agents.

    Attributes:
        seen: True from the first such signal on.
    """

    def __init__(self) -> None:
        self.seen = False
        self._received = signals.received(self._note)

    def _note(self, _number: int) -> None:
        self.seen = True

    def __enter__(self) -> Self:
        self._received.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._received.__exit__(kind, error, tb)


class _Run(Pair):
    """A migration that tells whether a signal came while it ran, even one that came too late."""

    @property
    def interrupted(self) -> bool:
        return self._cancelled


def run_once(
    config: MigrationConfig,
    log_dir: Path | None,
    show: Callable[[Status], None],
    *,
    net: NetOptions | None = None,
    signals: Signals | None = None,
    say: Callable[[str], None] = notify_once,
) -> tuple[PairResult | None, bool]:
    """Run one migration, and tell whether a signal came meanwhile.

    Args:
        config: What is run.
        log_dir: Where its agents' logs go; None keeps none.
        show: Called with each status.
        net: A network of its own for it; None is loopback as it is.
        signals: Has noted a signal that came before its agents could; None: nobody has.
        say: Called with each line that a person should see.

    Returns:
        How it ended, None if a signal cancelled it; and whether a signal came.

    Raises:
        UsageError: The network can't be had. What goes wrong later is a result.
    """
    network = Network(net, show)
    interrupted = False
    try:
        with network:
            if signals is not None and signals.seen:
                raise CancelledByUser(NOT_BEGUN)
            run = _Run(config, log_dir, route=network.route, say=say)
            try:
                result = run.run(network.show)
            finally:
                interrupted = run.interrupted
    except CancelledByUser:
        return None, True
    except PageferryError as error:
        result = PairResult(None, error.exit_code, str(error))
    if result.report is not None:
        network.tell(result.report)
    if interrupted and (result.report is None or result.report.outcome == "cancelled"):
        return None, True
    return result, interrupted


class Series:
    """All cases, each run several times, in turn.

    In turn, because a busy host changes with time: what disturbs one case should disturb them all.

    Args:
        cases: What is run.
        runs: How often each of them is run.
        log_dir: Each run logs to a folder `run-NN` there; None keeps no logs.
        show: Called with each status of the present run.
        finished: Called with a line about each run that is over.
        pipe: Of a supervisor that wants to know the same; None without one.
        net: A network of its own for each run; None is loopback as it is.
        say: Called with each line of the agents that a person should see.

    Attributes:
        attempts: The runs that have ended and were not cancelled, in order.
        interrupted: Whether a signal came.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        runs: int,
        *,
        log_dir: Path | None,
        show: Callable[[Status], None],
        finished: Callable[[str], None],
        pipe: StatusPipe | None = None,
        net: NetOptions | None = None,
        say: Callable[[str], None] = notify_once,
    ) -> None:
        self.cases = list(cases)
        self.runs = runs
        self.attempts: list[RunAttempt] = []
        self.interrupted = False
        self._order = [index for _ in range(runs) for index in range(len(self.cases))]
        self._log_dir = log_dir
        self._show = show
        self._finished = finished
        self._pipe = pipe
        self._net = net
        self._say = say
        self._signals: Signals | None = None

    def run(self, signals: Signals) -> None:
        """Run all of it, or until interrupted.

        Args:
            signals: Entered by the caller.
        """
        self._signals = signals
        for number, index in enumerate(self._order, 1):
            self.interrupted = self.interrupted or signals.seen
            if self.interrupted:
                return
            attempt = self._attempt(number, index)
            if attempt is not None:
                self.attempts.append(attempt)
                self._finished(self._sentence(number, attempt))

    @property
    def exit_code(self) -> int:
        """The command's exit code."""
        return EXIT_CANCELLED if self.interrupted else worst_exit_code(self.attempts)

    @property
    def interruption(self) -> str:
        """What to say of an interruption."""
        return (
            f"cancelled: {len(self.attempts)} of {len(self._order)} runs had finished,"
            " they are reported"
        )

    def of_case(self, index: int) -> list[RunAttempt]:
        """List what became of one case.

        Args:
            index: Of the case.

        Returns:
            Its attempts, in order.
        """
        return [attempt for attempt in self.attempts if attempt.case == index]

    def completed_reports(self, index: int) -> list[Report]:
        """List the reports of one case's migrations that completed.

        Args:
            index: Of the case.

        Returns:
            Them, in order.
        """
        return [each.report for each in self.of_case(index) if each.report and each.completed]

    @property
    def reports(self) -> list[Report]:
        """Every report that there is, in the order in which the runs were made."""
        return [attempt.report for attempt in self.attempts if attempt.report is not None]

    def report_places(self, index: int) -> list[int]:
        """Find the reports of one case.

        Args:
            index: Of the case.

        Returns:
            Their places in `reports`.
        """
        told = [attempt.case for attempt in self.attempts if attempt.report is not None]
        return [place for place, case in enumerate(told) if case == index]

    @property
    def labels(self) -> list[str]:
        """One for each of `reports`."""
        labels = []
        for place, index in enumerate(a.case for a in self.attempts if a.report is not None):
            label = self.cases[index].label
            if self.runs > 1:
                label += f", run {self.report_places(index).index(place) + 1}"
            labels.append(label)
        return labels

    @property
    def case_labels(self) -> list[str]:
        """For each of `reports`, the case that it is a run of."""
        return [self.cases[a.case].label for a in self.attempts if a.report is not None]

    def _place(self, number: int) -> str:
        return f"run {number} of {len(self._order)}"

    def _attempt(self, number: int, index: int) -> RunAttempt | None:
        """Run a case once; return None if the user cancelled it."""
        case = self.cases[index]
        if self._pipe is not None:
            self._pipe.write("run", {"run": number, "of": len(self._order), "label": case.label})

        def show(status: Status) -> None:
            if self._pipe is not None:
                self._pipe.write("status", status.model_dump())
            phase = f"{self._place(number)} · {case.label} · {status.phase}"
            self._show(status.model_copy(update={"phase": phase}))

        log_dir = self._log_dir / f"run-{number:02}" if self._log_dir else None
        result, self.interrupted = run_once(
            case.config, log_dir, show, net=self._net, signals=self._signals, say=self._say
        )
        if result is None:
            return None
        return RunAttempt(index, result.report, result.exit_code, result.error)

    def _sentence(self, number: int, attempt: RunAttempt) -> str:
        return f"{self._place(number)} · {self.cases[attempt.case].label}: {outcome_words(attempt)}"


def outcome_words(attempt: RunAttempt) -> str:
    """Say in a few words how a run ended.

    Args:
        attempt: The run.

    Returns:
        Downtime and total time, and what went wrong; or only that, where there are no figures.
    """
    report = attempt.report
    if report is None or report.downtime_ms is None or report.total_time_ms is None:
        return f"failed: {attempt.error or 'no reason given'}"
    words = f"{report.downtime_ms:,.0f} ms down, {report.total_time_ms:,.0f} ms in all"
    return words if attempt.error is None else f"{words}; {attempt.error}"


def run_series(
    cases: Sequence[Case],
    runs: int,
    output: OutputOptions,
    signals: Signals,
    pipe: StatusPipe | None,
    net: NetOptions | None = None,
) -> Series:
    """Run all cases under a progress line; where that is a bar, say of each run how it ended.

    Args:
        cases: What is run.
        runs: How often each of them is run.
        output: Where logs go, and what progress is shown.
        signals: Entered by the caller.
        pipe: Of a supervisor that wants to know the same; None without one.
        net: A network of its own for each run; None is loopback as it is.

    Returns:
        The series, ended or interrupted.
    """
    from pageferry.common.terminal.console import ProgressView

    by_bar = form_of(output.wish, terminal=sys.stderr.isatty()) == "bar"

    def finished(line: str) -> None:
        if by_bar:
            print(line, file=sys.stderr, flush=True)

    with ProgressView(output.wish) as view:
        series = Series(
            cases,
            runs,
            log_dir=output.log_dir,
            show=view.update,
            finished=finished,
            pipe=pipe,
            net=net,
        )
        series.run(signals)
    return series
