"""Predictions of real guests: what is said before a migration, and what its report makes of it."""

from __future__ import annotations

import json

import pytest

from pageferry.common.report.sections.prediction import PredictionCheck, PredictionReport
from pageferry.common.strategy.prediction import STRATEGIES
from pageferry.runs.prediction import Prediction
from tests.integration.test_kernel_tracker import REFUSAL
from tests.support.harness import migrate, pageferry

GUEST = ("--memory", "64MiB", "--workload", "uniform:working-set=8MiB,rate=20MB/s,lines=64")
QUICK = ("--predict", "--predict-time", "150ms", "--max-bandwidth", "300MB/s")
FULL = 64 * 2**20


def _is_whole(made: PredictionReport) -> None:
    assert tuple(each.strategy for each in made.strategies) == STRATEGIES
    assert made.choice in STRATEGIES
    # 2048 pages at 20 MB/s: some, and not all of them, are dirty after 150 ms.
    assert 100 < made.curve[-1].pages < 2048
    assert made.curve[-1].lines > made.curve[-1].pages
    pages = [look.pages for look in made.curve]
    assert pages == sorted(pages)
    assert made.steps_per_s_while > 0
    assert made.bandwidth is not None
    for each in made.strategies:
        if not each.note:
            assert each.bytes >= FULL
            assert each.total_time_ms >= each.bytes / made.bandwidth * 1e3 - 5
        assert each.total_time_ms >= each.downtime_ms > 0


def _checked(made: PredictionReport, strategy: str) -> PredictionCheck:
    assert made.taken is not None
    assert made.taken.strategy == strategy
    return made.taken


@pytest.mark.parametrize(
    ("strategy", "tracker"),
    [
        ("pre-copy", "log"),
        pytest.param(
            "three-path",
            "kernel",
            marks=pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL or "available"),
        ),
    ],
)
def test_a_migration_is_predicted_and_nothing_is_lost(strategy: str, tracker: str) -> None:
    """Measuring takes from the dirty log what the migration would have found there."""
    run = migrate(*GUEST, *QUICK, "--strategy", strategy, "--dirty-tracker", tracker)
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.verified is True
    made = report.prediction
    assert made is not None
    _is_whole(made)
    check = _checked(made, strategy)
    # Bytes are no matter of how busy this host is, but for what rounds of another length find.
    assert abs(check.bytes_error) < 0.3
    assert f"{strategy} " in run.stderr
    assert "predicted:" in run.stderr
    events = [event.event for event in report.events]
    assert events.index("measuring") < events.index("predicted") < events.index("migration-start")


def test_a_guest_is_predicted_without_a_destination() -> None:
    run = pageferry(
        *("predict", *GUEST, "--measure", "150ms", "--warmup", "100ms", "--json", "-"),
        *("--assume-bandwidth", "50MB/s", "--quiet"),
    )
    assert run.exit_code == 0, run.stderr
    assert run.stderr == ""
    document = Prediction.model_validate(json.loads(run.stdout))
    _is_whole(document.prediction)
    assert document.prediction.taken is None
    assert (document.prediction.bandwidth or 0.0) <= 50e6
    assert document.config["memory"] == FULL
