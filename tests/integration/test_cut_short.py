"""A run that its --timeout ended: what was sent by then is never taken for all there was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import migrate, pageferry

MEMORY = 16 * 2**20
GUEST = (
    *("--memory", "16MiB", "--max-bandwidth", "12.5MB/s", "--workload", "zipf:rate=1MB/s"),
    *("--strategy", "pre-copy"),
)


def timed(action: str, timeout: str, *more: str) -> dict[str, Any]:
    run = migrate(*GUEST, "--timeout", timeout, "--timeout-action", action, *more)
    assert run.exit_code == 0, run.stderr
    report: dict[str, Any] = run.json
    assert report["verified"] is True
    return report


@pytest.mark.parametrize("action", ["stop-and-copy", "post-copy"])
@pytest.mark.parametrize("timeout", ["1ms", "300ms"])
def test_the_oracle_knows_all_pages_though_a_round_was_cut_short(action: str, timeout: str) -> None:
    report = timed(action, timeout)
    first = report["rounds"][0]
    assert first["kind"] == "full"
    assert first["pages"] + first["zero_pages"] < MEMORY // 4096
    least = report["oracle"]["least_bytes"]
    assert least == pytest.approx(MEMORY, rel=0.01)
    assert 1 <= report["oracle"]["bytes_ratio"] < 1.3
    assert report["oracle"]["least_total_time_ms"] == pytest.approx(1342, rel=0.3)
    estimates = {each["name"]: each for each in report["estimates"]}
    for name in ("stop-and-copy", "post-copy", "path 3"):
        assert estimates[name]["bytes"] >= 0.99 * least
    assert estimates["stop-and-copy"]["downtime_ms"] == pytest.approx(1342, rel=0.3)
    # No strategy's rounds are what was done: nothing passes for the estimate of it.
    assert not any(each["taken"] for each in report["estimates"])
    # What was not sent hid what the guest wrote: no figure, and no small one.
    assert report["decisions"][1]["dirty_rate"] is None
    assert report["rounds"][0]["pages_left"] > 0


def test_memory_that_is_half_zero() -> None:
    report = timed("stop-and-copy", "1ms", "--seed", "3")
    half = migrate(
        *("--memory", "16MiB", "--max-bandwidth", "12.5MB/s", "--strategy", "pre-copy"),
        *("--workload", "zipf:rate=1MB/s,zero-share=50%"),
        *("--timeout", "1ms", "--timeout-action", "stop-and-copy"),
    ).json
    assert half["oracle"]["least_bytes"] == pytest.approx(MEMORY / 2, rel=0.1)
    assert report["oracle"]["least_bytes"] == pytest.approx(MEMORY, rel=0.01)


def test_a_run_that_is_not_cut_short_is_as_before() -> None:
    run = migrate(*GUEST, "--timeout", "60s", "--timeout-action", "stop-and-copy")
    report = run.json
    assert report["oracle"]["least_bytes"] == pytest.approx(MEMORY, rel=0.01)
    assert [each["name"] for each in report["estimates"] if each["taken"]] == ["pre-copy"]
    assert all(each.get("pages_left") == 0 for each in report["rounds"])


def test_lazy_copy_is_not_all_of_memory() -> None:
    report = migrate(
        *("--memory", "64MiB", "--strategy", "lazy-copy", "--max-bandwidth", "50MB/s"),
        *("--workload", "uniform:working-set=4MiB,rate=20MB/s"),
    ).json
    assert report["postcopy"]["pages_never_moved"] > 0
    assert report["oracle"] is None
    assert report["estimates"] == []


def test_a_cancelled_run_has_no_least() -> None:
    run = migrate(*GUEST, "--timeout", "300ms", "--timeout-action", "cancel")
    assert run.exit_code == 130
    assert run.json["oracle"] is None
    assert run.json["estimates"] == []


def test_a_run_that_was_cut_short_can_be_simulated(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    options = (*GUEST, "--timeout", "200ms", "--timeout-action", "stop-and-copy")
    lead = ("--warmup", "100ms", "--run-after", "100ms")
    run = pageferry("migrate", *options, *lead, "--json", str(file))
    assert run.exit_code == 0, run.stderr
    assert "2 (full cut short, final)" in run.stdout
    run = pageferry("simulate", "--from", str(file))
    assert run.exit_code == 0, run.stderr
    text = " ".join(run.stdout.split())
    assert "--timeout 200ms ended the measured one, and is not played" in text
    rows = [line for line in run.stdout.splitlines() if line.strip().startswith("downtime ms")]
    assert rows
    assert "%" not in rows[-1]  # nothing is off by so much from what is something else


def test_what_was_predicted_is_not_put_to_it() -> None:
    report = timed("stop-and-copy", "200ms", "--predict", "--predict-time", "100ms")
    assert report["prediction"] is not None
    assert report["prediction"]["taken"] is None
