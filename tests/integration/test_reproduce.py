"""`pageferry reproduce` with real agents: one that is interrupted keeps what it has."""

from __future__ import annotations

import json
import signal

import pytest

from tests.support.harness import agent, children_of, pageferry, wait_gone


def test_a_signal_keeps_the_cases_that_had_finished() -> None:
    with agent("reproduce", "--quick", "--json", "-", "--quiet") as running:
        running.wait_status(lambda key, value: key == "run" and value["run"] == 3)
        running.wait_status(lambda key, value: key == "status" and value["phase"] == "warming up")
        agents = children_of(running.process.pid)
        running.process.send_signal(signal.SIGINT)
        run = running.end()
    assert run.exit_code == 130, run.stderr
    assert "cancelled: 2 of 10 runs had finished" in run.complaint
    document = json.loads(run.stdout)
    assert document["schema_version"] == 1
    assert document["interrupted"] is True
    assert document["scale"] == 16
    with_cache, without = document["table"]
    assert (with_cache["strategy"], with_cache["path"], with_cache["rounds"]) == (
        "three-path",
        1,
        3,
    )
    assert (without["strategy"], without["rounds"]) == ("pre-copy", 11)
    assert with_cache["verified"] is without["verified"] is True
    assert [report["verified"] for report in document["runs"]] == [True, True]
    assert with_cache["paper_downtime_ms"] == 348 / 16
    assert wait_gone(agents) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--rates", "fast"), "--rates"),
        (("--rates", "100MB/s,800mbit"), "twice"),
        (("--runs", "0"), "--runs"),
        (("--path3", "pre-copy"), "post-copy"),
    ],
)
def test_bad_usage_is_named_and_prints_no_table(arguments: tuple[str, ...], named: str) -> None:
    run = pageferry("reproduce", *arguments)
    assert run.exit_code == 2
    assert named in run.complaint
    assert run.stdout == ""
