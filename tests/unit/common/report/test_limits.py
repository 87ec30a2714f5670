from __future__ import annotations

from typing import Any

import pytest

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import EXIT_FAILED, EXIT_LIMIT_MISSED, EXIT_OK
from pageferry.common.report.limits import (
    DOWNTIME,
    enforced,
    judge,
    limit_warning,
    limits_given,
    missed_sentence,
)
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.rounds import DecisionReport, DowntimePart


def report(strategy: str = "pre-copy", **values: Any) -> Report:
    config = {"downtime_limit": 0.3, "max_rounds": 9, "timeout": None}
    reason = values.pop("reason", "fits")
    decided = DecisionReport(
        after_round=1, decision="StopAndCopy", reason=reason, expected_downtime_ms=250.0
    )
    whole = {
        "session": "s",
        "strategy": strategy,
        "path": None,
        "outcome": "completed",
        "config": config | values.pop("config", {}),
        "downtime_ms": 400.0,
        "total_time_ms": 5000.0,
        "decisions": [decided],
        "downtime_parts": [DowntimePart(name="last pages", start_ms=0.0, ms=390.0)],
    }
    return Report(**(whole | values))


def why(made: Report, *limits: str) -> list[str]:
    judge(made, limits)
    return [f"{each.limit}: {each.why}" for each in made.limits_missed]


def test_which_limits_were_given() -> None:
    assert limits_given(MigrationConfig(strategy="pre-copy")) == frozenset()
    assert limits_given(MigrationConfig(downtime_limit=0.3)) == {DOWNTIME}  # also at its default


@pytest.mark.parametrize(("strategy", "counts"), [("pre-copy", True), ("three-path", False)])
def test_a_default_counts_where_it_is_stopped_by(strategy: str, counts: bool) -> None:
    assert bool(why(report(strategy))) == counts
    assert why(report(strategy), DOWNTIME)
    assert not why(report(strategy, downtime_ms=300.0), DOWNTIME)


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "in-doubt"])
def test_one_that_has_not_moved_misses_nothing(outcome: str) -> None:
    assert not why(report(outcome=outcome), DOWNTIME)


def test_a_missed_limit_says_why() -> None:
    (said,) = why(report())
    assert "a stop was expected to take 250 ms" in said
    assert "390 ms, was the last pages'" in said
    (said,) = why(report(converged=False))
    assert "--max-rounds 9 ended the rounds, and 250 ms were expected then" in said
    (said,) = why(report("three-path"), DOWNTIME)
    assert said == "downtime_limit: three-path does not look at it"


def test_a_missed_time_limit_says_what_took_the_rest() -> None:
    late: dict[str, Any] = {
        "config": {"timeout": 1.0, "timeout_action": "post-copy"},
        "downtime_ms": 1.0,
    }
    (said,) = why(report(reason="--timeout: 1s are over", **late))
    assert said == "timeout: what followed by post-copy took the rest"
    assert not why(report(**late, total_time_ms=900.0))


def test_enforce_changes_the_exit_code_of_a_success_only() -> None:
    made = report()
    judge(made, ())
    assert enforced(made, EXIT_OK, enforce=False) == (EXIT_OK, None)
    code, said = enforced(made, EXIT_OK, enforce=True)
    assert code == EXIT_LIMIT_MISSED
    assert said == missed_sentence(made.limits_missed[0])
    assert enforced(made, EXIT_FAILED, enforce=True) == (EXIT_FAILED, None)
    assert enforced(None, EXIT_OK, enforce=True) == (EXIT_OK, None)


def test_who_does_not_look() -> None:
    assert limit_warning(["pre-copy", "hybrid", "cache-aware"], [0.1], {}) is None
    assert limit_warning(["three-path"], [0.1], {"path2_stop": "limit"}) is None
    said = limit_warning(["pre-copy", "post-copy", "three-path", "post-copy"], [0.1], {})
    assert said is not None
    assert said.startswith("post-copy, three-path do not look at --downtime-limit 100ms")
