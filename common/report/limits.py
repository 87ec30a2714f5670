"""Limits of a migration that a user gave, and what to say where one was missed; pure.

`--downtime-limit` counts where the user gave it, and with the strategies that stop by it. Its
default promises nothing for the others, which never look at it. `--timeout` says how long a
migration may take; what `--timeout-action` does about it is done only then, and may take its time
as well.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import Final

from pydantic import BaseModel

from pageferry.common.errors import EXIT_LIMIT_MISSED, EXIT_OK
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.limits import LimitMissed
from pageferry.common.report.summary import is_simulated
from pageferry.common.strategy import REGISTRY
from pageferry.common.units import figures, format_time

DOWNTIME: Final = "downtime_limit"
TIMEOUT: Final = "timeout"


def stops_by_limit(strategy: str, options: Mapping[str, object]) -> bool:
    """Tell whether a strategy stops by `--downtime-limit`.

    Args:
        strategy: Its registered name.
        options: Values of a migration's options by the names of their fields.

    Returns:
        Whether it does.
    """
    return REGISTRY[strategy].looks_at_limit(options)


def limits_given(config: BaseModel) -> frozenset[str]:
    """List the limits that the user gave, be it at their defaults.

    Args:
        config: A configuration with `downtime_limit` and `timeout`.

    Returns:
        Names of fields.
    """
    return frozenset({DOWNTIME, TIMEOUT} & config.model_fields_set)


def limit_warning(
    strategies: Collection[str], limits_s: Collection[float], options: Mapping[str, object]
) -> str | None:
    """Word a warning about strategies that do not look at a downtime limit that was given.

    Args:
        strategies: Names, with or without duplicates.
        limits_s: The limits that were given, seconds.
        options: As for `stops_by_limit`.

    Returns:
        One line; None where every strategy looks at it.
    """
    blind = [name for name in dict.fromkeys(strategies) if not stops_by_limit(name, options)]
    if not blind:
        return None
    verb = "does" if len(blind) == 1 else "do"
    return (
        f"{', '.join(blind)} {verb} not look at --downtime-limit"
        f" {', '.join(format_time(each) for each in dict.fromkeys(limits_s))}: whether it was kept"
        " is said at the end"
    )


def warn_of_limit(strategies: Collection[str], config: BaseModel) -> None:
    """Warn on standard error that strategies do not look at a downtime limit that was given.

    Args:
        strategies: Names of the strategies that will run.
        config: Where the limit was given, or not.
    """
    if DOWNTIME in limits_given(config):
        limits_s = [getattr(config, DOWNTIME)]
        print_warning(limit_warning(strategies, limits_s, config.model_dump()))


def print_warning(text: str | None) -> None:
    """Print a line on standard error.

    Args:
        text: None: there is nothing to say.
    """
    if text is not None:
        print(f"pageferry: {text}", file=sys.stderr, flush=True)


def judge(report: Report, given_limits: Collection[str]) -> None:
    """Fill in which limits a report missed.

    A migration that has not ended well neither keeps nor misses a limit.

    Args:
        report: Its `limits_missed` is set where it completed.
        given_limits: Names of the limits that the user gave, see `limits_given`.
    """
    if report.outcome == "completed":
        found = (_downtime(report, given_limits), _timeout(report))
        report.limits_missed = [each for each in found if each is not None]


def missed_sentence(missed: LimitMissed, *, simulated: bool = False) -> str:
    """Say which limit was missed, by what, and why.

    Args:
        missed: As the report has it.
        simulated: Whether nothing was measured: then it `would be missed`.

    Returns:
        `--downtime-limit 10ms was missed: 74.1 ms, because ...`, without a full stop.
    """
    verb = "would be" if simulated else "was"
    option = "--" + missed.limit.replace("_", "-")
    limit = format_time(missed.limit_ms / 1e3)
    return f"{option} {limit} {verb} missed: {figures(missed.measured_ms, 4)} ms, {missed.why}"


def enforced(report: Report | None, exit_code: int, *, enforce: bool) -> tuple[int, str | None]:
    """Apply `--enforce` to an exit code.

    Args:
        report: Of the run; None: there is none.
        exit_code: Without `--enforce`. One that says that something is worse stays as it is.
        enforce: Whether it was asked for.

    Returns:
        The exit code, and what to say of missed limits; None: nothing.
    """
    if not enforce or exit_code != EXIT_OK or report is None or not report.limits_missed:
        return exit_code, None
    simulated = is_simulated(report)
    said = [missed_sentence(each, simulated=simulated) for each in report.limits_missed]
    return EXIT_LIMIT_MISSED, "; ".join(said)


def _downtime(report: Report, given_limits: Collection[str]) -> LimitMissed | None:
    """Judge the downtime limit; return None where it was kept or does not count."""
    limit_s = report.config.get(DOWNTIME)
    asked = DOWNTIME in given_limits or stops_by_limit(report.strategy, report.config)
    if not asked or not isinstance(limit_s, (int, float)) or report.downtime_ms is None:
        return None
    if report.downtime_ms <= limit_s * 1e3:
        return None
    return LimitMissed(
        limit=DOWNTIME,
        limit_ms=limit_s * 1e3,
        measured_ms=report.downtime_ms,
        why=_why(report, limit_s * 1e3),
    )


def _why(report: Report, limit_ms: float) -> str:
    """Say in a clause why it was missed; what decided comes before what was expected."""
    if not stops_by_limit(report.strategy, report.config):
        return f"{report.strategy} does not look at it"
    if report.path in (1, 3):
        return f"path {report.path} does not look at it"
    last = report.decisions[-1] if report.decisions else None
    expected_ms = None if last is None else last.expected_downtime_ms
    expected = ""
    if expected_ms is not None:
        expected = f", and {figures(expected_ms, 4)} ms were expected then"
    if report.converged is False:
        return f"{ended_by(report)} ended the rounds{expected}"
    if last is not None and last.decision.startswith("SwitchToPostCopy"):
        return "the switch to post-copy itself took longer"
    if expected_ms is not None and expected_ms <= limit_ms:
        return f"a stop was expected to take {figures(expected_ms, 4)} ms{_longest(report)}"
    return f"the stop took longer{_longest(report)}"


def _longest(report: Report) -> str:
    """Name the longest part of the downtime."""
    part = max(report.downtime_parts, key=lambda each: each.ms, default=None)
    if part is None:
        return ""
    return f"; most of it, {figures(part.ms, 4)} ms, was {_NAMES[part.name]}"


_NAMES: Final = {
    "pause": "the pause",
    "drain": "the drain of the cache",
    "last pages": "the last pages'",
    "snapshot and commit": "the snapshot's and its way",
    "resume": "the resume",
}


def ended_by(report: Report) -> str:
    """Name the option that ended rounds that had not converged.

    Args:
        report: Of such a run.

    Returns:
        `--timeout`, or `--max-rounds` with its value.
    """
    if report.decisions and report.decisions[-1].reason.startswith("--timeout"):
        return "--timeout"
    return f"--max-rounds {report.config.get('max_rounds', '')}".rstrip()


def _timeout(report: Report) -> LimitMissed | None:
    """Judge the time limit; return None where it was kept or there is none."""
    limit_s = report.config.get(TIMEOUT)
    if not isinstance(limit_s, (int, float)) or report.total_time_ms is None:
        return None
    if report.total_time_ms <= limit_s * 1e3:
        return None
    action = report.config.get("timeout_action")
    cut = bool(report.decisions) and report.decisions[-1].reason.startswith("--timeout")
    why = f"what followed by {action} took the rest" if cut else "the hand-over had begun by then"
    return LimitMissed(
        limit=TIMEOUT, limit_ms=limit_s * 1e3, measured_ms=report.total_time_ms, why=why
    )
