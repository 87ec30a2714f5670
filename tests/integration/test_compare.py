"""`pageferry compare` with real agents: every cell of the table, a run that dies, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pageferry.common.report.schema import Report
from tests.support.harness import Agent, Run, agent, children_of, pageferry, wait_gone
from tests.support.spare import runs

FAST = ("--warmup", "100ms", "--run-after", "100ms", "--workload", "zipf:rate=20MB/s")
QUICK = ("--memory", "16MiB", *FAST)
GRID = ("--strategies", "pre-copy,three-path", "--cache", "0,256KiB")
# A round 1 that isn't over before a signal has come.
SLOW = ("--memory", "32MiB", "--max-bandwidth", "30MB/s", "--max-rounds", "2", *FAST)


def in_run(number: int) -> Any:
    return lambda key, value: key == "run" and value["run"] == number


def in_phase(phase: str) -> Any:
    return lambda key, value: key == "status" and phase in value["phase"]


def table_of(run: Run) -> tuple[list[Report], list[dict[str, Any]]]:
    document = json.loads(run.stdout)
    assert document["schema_version"] == 1
    return [Report.model_validate(each) for each in document["runs"]], document["table"]


def source_of(running: Agent) -> int:
    """The process id of the present run's source agent."""
    for pid in children_of(running.process.pid):
        if runs(pid, "pageferry.source_agent"):
            return pid
    raise AssertionError("there is no source agent")


def test_a_grid_of_which_one_run_dies() -> None:
    slow = ("--max-bandwidth", "40MB/s")
    with agent("compare", "--json", "-", *QUICK, *slow, *GRID) as running:
        running.wait_status(in_run(2))
        running.wait_status(in_phase("round 1"))
        os.kill(source_of(running), signal.SIGKILL)
        run = running.end()
    assert run.exit_code == 4, run.stderr
    reports, table = table_of(run)
    assert [(row["strategy"], row["cache"]) for row in table] == [
        ("pre-copy", "0"),
        ("pre-copy", "256KiB"),
        ("three-path", "0"),
        ("three-path", "256KiB"),
    ]
    assert [row["outcome"] for row in table] == ["completed", "failed", "completed", "completed"]
    assert table[1]["errors"] == ["the source agent was ended by SIGKILL: its guest ended with it"]
    assert table[1]["downtime_ms"] is table[1]["downtime_ms_ratio"] is None
    assert [row["verified"] for row in table] == [True, None, True, True]
    assert [row["runs"] for row in table] == [[0], [], [1], [2]]
    for row, report in zip((table[0], table[2], table[3]), reports, strict=True):
        assert row["strategy"] == report.strategy
        assert row["downtime_ms"] == report.downtime_ms
        assert row["bytes_on_wire"] == report.bytes_on_wire
        assert row["path"] == report.path
        assert row["rounds"] == len(report.rounds)
        assert row["total_time_ms_ratio"] == pytest.approx(
            row["total_time_ms"] / table[0]["total_time_ms"]
        )
        assert (report.cache is None) == (row["cache"] == "0")
        assert report.config["seed"] == 1


def test_the_table_for_people_with_medians(tmp_path: Path) -> None:
    file, page = tmp_path / "compare.json", tmp_path / "compare.html"
    run = pageferry(
        *("compare", "--json", str(file), "--runs", "2", "--log-dir", str(tmp_path / "logs")),
        *("--html", str(page)),
        *("--strategies", "stop-and-copy", "--cache", "0,256KiB", *QUICK),
    )
    assert run.exit_code == 0, run.stderr
    assert run.said == []
    assert "zipf:rate=20MB/s · 16MiB · seed 1 · median of 2 runs" in run.stdout
    assert run.stdout.count("stop-and-copy") == 2
    document = json.loads(file.read_text())
    assert document["interrupted"] is False
    assert len(document["runs"]) == 4
    for row in document["table"]:
        low, high = row["downtime_ms_spread"]
        assert low <= row["downtime_ms"] <= high
        stood_still = row["downtime_ms"] / row["total_time_ms"]
        assert row["guest_slowdown"] >= min(stood_still, 1) - 0.05
    logs = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert logs == ["run-01", "run-02", "run-03", "run-04"]
    text = page.read_text()
    assert "pageferry compare: zipf:rate=20MB/s · 16MiB · seed 1 · median of 2 runs" in text
    assert text.count("stop-and-copy, cache 256KiB, run 2") > 1  # in the table, and for itself
    assert document["sheets"][0]["columns"][:2] == ["strategy", "cache"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_runs_that_had_finished(number: signal.Signals) -> None:
    with agent("compare", "--json", "-", *GRID, *SLOW) as running:
        running.wait_status(in_run(2))
        running.wait_status(in_phase("round 1"))
        agents = children_of(running.process.pid)
        running.process.send_signal(number)
        run = running.end()
    assert run.exit_code == 130, run.stderr
    assert "cancelled: 1 of 4 runs had finished" in run.complaint
    reports, table = table_of(run)
    assert json.loads(run.stdout)["interrupted"] is True
    assert [report.verified for report in reports] == [True]
    assert [row["label"] for row in table] == ["pre-copy, no cache"]
    assert len(agents) == 2
    assert wait_gone(agents) == []
