"""What each function of the API does: keywords are checked at once, the rest is a `Job`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from pageferry.api.keywords import Keywords, check_values
from pageferry.api.running import Job, Show
from pageferry.common.command_line.run import LimitOptions, TlsOptions
from pageferry.common.config.guest import GuestConfig
from pageferry.common.config.model import MigrationConfig, value_words
from pageferry.common.errors import EXIT_LIMIT_MISSED, EXIT_USAGE, PageferryError, UsageError
from pageferry.common.process.status import Status
from pageferry.common.report.binding_limit import config_over_link
from pageferry.common.report.failure import MigrationError
from pageferry.common.report.limits import DOWNTIME, enforced, judge, limit_warning, limits_given
from pageferry.common.report.schema import Report
from pageferry.net.options import NetOptions
from pageferry.runs.axes import AXES, CompareOptions
from pageferry.runs.comparison import Comparison, checked_cases
from pageferry.runs.migration import run_migration, unreached_notice
from pageferry.runs.prediction import PredictConfig, Prediction, predict_apart
from pageferry.runs.reports import Reports
from pageferry.runs.series import Series, Signals, worst_exit_code
from pageferry.sim.options import SimulationOptions, refuse

_CONFIG: Final = frozenset(MigrationConfig.model_fields)
_NET: Final = frozenset(NetOptions.model_fields)
_TLS: Final = frozenset(TlsOptions.model_fields)
_LIMITS: Final = frozenset(LimitOptions.model_fields)
MIGRATE: Final = frozenset({*_CONFIG, *_NET, *_TLS, *_LIMITS, "log_dir"})
COMPARE: Final = frozenset({*_CONFIG, *_NET, *_LIMITS, "log_dir", "runs", "strategies"})
PREDICT: Final = frozenset({*_CONFIG, "measure"} - {"predict", "predict_time"})
SIMULATE: Final = frozenset({*_CONFIG, *_LIMITS, "link", "guest_speed", "from_file"})

Path_ = str | os.PathLike[str]


def migrate_job(config: MigrationConfig | None, options: Mapping[str, Any]) -> Job[Report]:
    """Check the keywords of `migrate`, and make its job.

    Args:
        config: Options made beforehand; only those that were set explicitly count. None has none.
        options: The caller's keywords, which override them; left unchanged.

    Returns:
        The job. It runs the migration and returns its report, or raises `MigrationError`.

    Raises:
        UsageError: A keyword or its value is wrong, or the TLS folder or `log_dir` cannot be used.
    """
    words = Keywords(options, MIGRATE)
    found = words.take(MigrationConfig, _set(config))
    net, tls = words.take(NetOptions), words.take(TlsOptions)
    limits, log_dir = words.take(LimitOptions), _folder(words.pop("log_dir"))
    tls.load()
    found = config_over_link(found, net.rate)

    def work(show: Show) -> Report:
        say = _sayer(show)
        for line in _notes([found], [found.strategy], found):
            say(line)
        with _failing():
            ended = run_migration(found, show, net=net, tls=tls, log_dir=log_dir, say=say)
        for fault in ended.unreached:
            say(unreached_notice(fault))
        code, missed = enforced(ended.report, ended.exit_code, enforce=limits.enforce)
        if code or ended.report is None:
            raise MigrationError(missed or ended.error or "there is no report", code, ended.report)
        return ended.report

    return work


def compare_job(config: MigrationConfig | None, options: Mapping[str, Any]) -> Job[Reports]:
    """Check the keywords of `compare`, and make its job.

    Args:
        config: As in `migrate_job`; its value for an axis is that axis's only value.
        options: The caller's keywords, which override it. An axis is a list, one value, or text
            with commas.

    Returns:
        The job. It runs every case and returns all reports; a run that fails is one of them.

    Raises:
        UsageError: A keyword or its value is wrong, a combination is no configuration, two are the
            same, or this machine has room for none.
    """
    words = Keywords(options, COMPARE)
    words.rename("strategies", "strategy")
    base = {name: _axis(name, value) for name, value in _set(config).items()}
    texts = {name: _axis(name, words.pop(name)) for name in AXES if name in options}
    if "strategies" in options:
        texts["strategy"] = _axis("strategy", words.pop("strategy"))
    runs = _runs(words.pop("runs", 1))
    found: BaseModel = words.take(CompareOptions, {**base, **texts})
    net, limits = words.take(NetOptions), words.take(LimitOptions)
    log_dir = _folder(words.pop("log_dir"))
    found = config_over_link(found, net.rate)
    cases, cells = _validated(lambda: checked_cases(found, net))

    def work(show: Show) -> Reports:
        say = _sayer(show)
        for line in _notes(
            [case.config for case in cases], [case.config.strategy for case in cases], found
        ):
            say(line)
        series = Series(
            cases, runs, log_dir=log_dir, show=show, finished=_unheard, net=net, say=say
        )
        with Signals() as signals, _failing():
            series.run(signals)
        for report in series.reports:
            judge(report, limits_given(found))
        if worst_exit_code(series.attempts) == EXIT_USAGE and not series.reports:
            raise UsageError(series.attempts[0].error or "no run could be made")
        code = series.exit_code
        if not code and limits.enforce and any(each.limits_missed for each in series.reports):
            code = EXIT_LIMIT_MISSED
        return Reports(Comparison(series, cells).document(), code)

    return work


def predict_job(config: MigrationConfig | None, options: Mapping[str, Any]) -> Job[Prediction]:
    """Check the keywords of `predict`, and make its job.

    Args:
        config: As in `migrate_job`; its `predict` is ignored.
        options: The caller's keywords, which override it; `measure` stands for `predict_time`.

    Returns:
        The job. It boots and measures the guest in a process of its own.

    Raises:
        UsageError: A keyword or its value is wrong.
    """
    words = Keywords(options, PREDICT)
    words.rename("measure", "predict_time")
    base = {name: value for name, value in _set(config).items() if name != "predict"}
    found = words.take(PredictConfig, base)
    found = config_over_link(found, found.assume_bandwidth or math.inf)

    def work(show: Show) -> Prediction:
        say = _sayer(show)
        for line in _notes([found], (), found):
            say(line)
        with _failing():
            return predict_apart(found, show, say)

    return work


def simulate_job(config: MigrationConfig | None, options: Mapping[str, Any]) -> Job[Report]:
    """Check the keywords of `simulate`, and make its job.

    Args:
        config: As in `migrate_job`.
        options: The caller's keywords, which override it.

    Returns:
        The job. It simulates one migration; it raises `UsageError` where the file of `from_file`
        cannot be used or nothing limits the link.

    Raises:
        UsageError: A keyword or its value is wrong, or is one that a simulation cannot have.
    """
    from pageferry.sim.link import not_modelled, parse_link

    words = Keywords(options, SIMULATE)
    found = words.take(MigrationConfig, _set(config))
    about, limits = words.take(SimulationOptions), words.take(LimitOptions)
    refuse(found)
    parse_link(about.link)

    def work(show: Show) -> Report:
        from pageferry.runs.simulation import measured_of, run_simulation

        show(Status(phase="simulating"))
        say = _sayer(show)
        measured = measured_of(found, about)
        strategy = found.strategy if measured is None else measured.config.strategy
        left_out = not_modelled(found.congestion)
        for line in [*_notes([found], [strategy], found), *([left_out] if left_out else [])]:
            say(line)
        report = run_simulation(found, about, measured)
        code, missed = enforced(report, 0, enforce=limits.enforce)
        if missed is not None:
            raise MigrationError(missed, code, report)
        return report

    return work


def _set(config: MigrationConfig | None) -> dict[str, Any]:
    """List what was given in it explicitly: a limit that was given differs from a default."""
    return {} if config is None else config.as_given()


def _axis(name: str, value: Any) -> Any:
    """Turn the values of an axis into the comma list that its option takes."""
    if name not in AXES or isinstance(value, str):
        return value
    values = value if isinstance(value, Iterable) else [value]
    return ",".join(each if isinstance(each, str) else value_words(name, each) for each in values)


def _runs(value: Any) -> int:
    from pageferry.runs.axes import CompareSeries

    return check_values(CompareSeries, {"runs": value}).runs


def _validated(make: Callable[[], Any]) -> Any:
    """Run `make`, and turn what pydantic says of a combination into a `UsageError`."""
    from pydantic import ValidationError

    from pageferry.common.config.model import explain

    try:
        return make()
    except ValidationError as error:
        raise UsageError(explain(error)) from None


def _folder(path: Path_ | None) -> Path | None:
    from pageferry.common.files.report_files import need_folder

    if path is None:
        return None
    need_folder(Path(path), "--log-dir")
    return Path(path)


def _notes(
    configs: Sequence[GuestConfig], strategies: Collection[str], limited: BaseModel
) -> list[str]:
    """List what a command would say before it begins."""
    lines = [each.cache_note for each in configs]
    if DOWNTIME in limits_given(limited):
        limits_s = [getattr(limited, DOWNTIME)]
        lines.append(limit_warning(strategies, limits_s, limited.model_dump()))
    return [line for line in dict.fromkeys(lines) if line is not None]


def _sayer(show: Show) -> Callable[[str], None]:
    """Make a function that passes a line for a person on as a status: we print nothing."""
    return lambda line: show(Status(phase="notice", notice=line))


def _unheard(_line: str) -> None:
    """Ignore what a command says of each finished run: the table has it."""


class _failing:  # noqa: N801 - it reads as the context manager that it is
    """Context in which a failure becomes a `MigrationError`, unless it is bad usage."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _tb: object) -> None:
        if isinstance(error, PageferryError) and not isinstance(
            error, (UsageError, MigrationError)
        ):
            raise MigrationError(str(error), error.exit_code) from error
