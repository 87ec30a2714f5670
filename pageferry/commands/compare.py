"""`pageferry compare`: the same guest under several strategies, one table."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from pageferry.common.command_line.run import LimitOptions, OutputOptions, tell
from pageferry.common.errors import EXIT_LIMIT_MISSED, EXIT_OK
from pageferry.common.files.report_files import ReportFiles
from pageferry.common.process.notices import print_error
from pageferry.common.process.status import StatusPipe
from pageferry.net.options import NetOptions
from pageferry.runs import tables
from pageferry.runs.axes import CompareOptions, CompareSeries
from pageferry.runs.comparison import Comparison, checked_cases
from pageferry.runs.document import render_series
from pageferry.runs.series import Series, Signals, run_series


def compare(
    *,
    options: Annotated[CompareOptions | None, Parameter(name="*")] = None,
    series: Annotated[CompareSeries | None, Parameter(name="*")] = None,
    net: Annotated[NetOptions | None, Parameter(name="*")] = None,
    limits: Annotated[LimitOptions | None, Parameter(name="*")] = None,
    output: Annotated[OutputOptions | None, Parameter(name="*")] = None,
    status_fd: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Migrate the same guest under several strategies, and print what each cost.

    Every combination of --strategies, --cache and the other options that take several values is
    a row; all rows have the same guest, seed and load, and with --net every run has a network of
    its own. A run that fails is a row, too. Ctrl-C ends the series and prints what has finished.

    Args:
        options: Guest, strategies and transfer; None is all defaults.
        series: How often each row is run; None is once.
        net: The network that is made for each run; None is loopback.
        limits: What a missed limit does to the exit code.
        output: Where results and progress go; None is the terminal only.
        status_fd: Descriptor on which progress is written as JSON lines; None is none.

    Returns:
        The exit code: 130 after Ctrl-C, else that of the worst run, else 5 with --enforce where a
        limit was missed.

    Raises:
        UsageError: An option is wrong, for one row or for all, or a file cannot be written.
    """
    from pageferry.common.report.binding_limit import config_over_link
    from pageferry.common.report.limits import judge, limits_given, warn_of_limit

    options = options or CompareOptions()
    if net is not None:
        options = config_over_link(options, net.rate)
    cases, cells = checked_cases(options, net)
    runs, output = (series or CompareSeries()).runs, output or OutputOptions()
    warn_of_limit([case.config.strategy for case in cases], options)
    tell([case.config for case in cases], quiet=output.quiet)
    pipe = StatusPipe(status_fd) if status_fd is not None else None
    with Signals() as signals, ReportFiles(output) as files:
        done = run_series(cases, runs, output, signals, pipe, net)
        for report in done.reports:
            judge(report, limits_given(options))
        _write(Comparison(done, cells), files, table=output.json_file != "-")
    if done.interrupted:
        print_error(done.interruption)
    return done.exit_code or _enforced(done, limits or LimitOptions())


def _enforced(done: Series, limits: LimitOptions) -> int:
    """Compute the exit code of a series in which nothing else went wrong."""
    missed = sum(bool(report.limits_missed) for report in done.reports)
    if not (limits.enforce and missed):
        return EXIT_OK
    print_error(f"{missed} of {len(done.reports)} runs missed a limit")
    return EXIT_LIMIT_MISSED


def _write(made: Comparison, files: ReportFiles, *, table: bool) -> None:
    document, done = made.document(), made.done
    files.write(
        document.to_json,
        lambda: render_series(
            document, f"pageferry compare: {made.title}", done.labels, done.case_labels
        ),
    )
    if table and made.rows:
        tables.print_sheets(made.sheets, lines=made.notes)
