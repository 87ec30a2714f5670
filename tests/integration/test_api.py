"""The functions of `pageferry`, with real migrations: what they return, raise, tell, and leave."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pageferry
from pageferry import Status
from tests.support.left_behind import nothing_left_or_printed
from tests.support.small_runs import SLOW, SMALL


@pytest.fixture(autouse=True)
def _nothing_is_left_and_nothing_printed(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    with nothing_left_or_printed(capfd):
        yield


def at(phase: str, act: Callable[[], None]) -> Callable[[Status], None]:
    """Act once, at the first moment whose phase begins so."""
    acted = False

    def on_status(status: Status) -> None:
        nonlocal acted
        if not acted and status.phase.startswith(phase):
            acted = True
            act()

    return on_status


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_migration_is_a_verified_report() -> None:
    said: list[Status] = []
    report = pageferry.migrate(**SMALL, on_status=said.append)
    assert isinstance(report, pageferry.Report)
    assert report.verified
    assert report.config["memory"] == 16 * 2**20
    assert report.command is not None
    assert report.command.startswith("pageferry migrate --memory 16MiB")
    phases = [status.phase for status in said]
    assert phases[0] == "starting the agents"
    assert any(phase.startswith("round 1") for phase in phases)


def test_options_come_over_those_of_a_config() -> None:
    config = pageferry.MigrationConfig(memory=8 * 2**20, seed=7)
    report = pageferry.migrate(config, **SMALL)
    assert (report.config["memory"], report.config["seed"]) == (16 * 2**20, 7)


def test_what_fails_is_raised_with_its_report_and_the_commands_exit_code() -> None:
    with pytest.raises(pageferry.MigrationError, match="goes on at the source") as raised:
        pageferry.migrate(**SMALL, inject=["source/after-round-1:cut"])
    assert raised.value.exit_code == 1
    assert raised.value.report is not None
    assert raised.value.report.outcome == "failed"


def test_a_limit_that_was_missed_is_raised_where_it_is_enforced() -> None:
    options = {**SMALL, "downtime_limit": "1us", "max_rounds": 1}
    said: list[Status] = []
    assert pageferry.migrate(**options, on_status=said.append).limits_missed
    with pytest.raises(pageferry.MigrationError, match="--downtime-limit 1us was missed") as raised:
        pageferry.migrate(**options, enforce=True)
    assert raised.value.exit_code == 5
    assert raised.value.report is not None
    assert raised.value.report.verified


def test_what_the_callback_raises_cancels_the_migration_and_comes_out() -> None:
    def refuse() -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        pageferry.migrate(**SLOW, on_status=at("round 1", refuse))


@pytest.mark.parametrize("phase", ["starting the agents", "warm", "round 1"])
def test_ctrl_c_ends_it_as_on_the_command_line(phase: str) -> None:
    with pytest.raises(KeyboardInterrupt, match="cancelled") as raised:
        pageferry.migrate(**SLOW, on_status=at(phase, ctrl_c))
    assert isinstance(raised.value, pageferry.Interrupted)
    if phase == "round 1":
        assert raised.value.report is not None
        assert raised.value.report.outcome == "cancelled"
        assert raised.value.report.guest.runs_at == "source"


def test_ctrl_c_that_comes_too_late_lets_the_guest_arrive() -> None:
    with pytest.raises(pageferry.Interrupted) as raised:
        pageferry.migrate(
            **{**SLOW, "strategy": "post-copy", "max_bandwidth": "16MB/s"},
            on_status=at("the guest runs there", ctrl_c),
        )
    assert raised.value.report is not None
    assert raised.value.report.outcome == "completed"


def test_an_exception_of_another_signals_handler_ends_it_too() -> None:
    def handler(_number: int, _frame: object) -> None:
        raise TimeoutError("the test took too long")

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(TimeoutError, match="too long"):
            pageferry.migrate(**SLOW)
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_it_runs_off_the_main_thread_and_in_a_loop_that_runs() -> None:
    reports: list[pageferry.Report] = []

    def work() -> None:
        async def inside() -> None:
            reports.append(pageferry.migrate(**SMALL))

        asyncio.run(inside())

    thread = threading.Thread(target=work)
    thread.start()
    asyncio.run(asyncio.to_thread(thread.join))
    assert [report.verified for report in reports] == [True]


def test_over_a_link_of_its_own() -> None:
    report = pageferry.migrate(**SMALL, net="rate=400mbit,delay=1ms", link="relay")
    assert report.net is not None
    assert report.net.link == "relay"
    assert "--net rate=400mbit,delay=1ms --link relay" in str(report.command)


def test_ctrl_c_while_the_link_is_made() -> None:
    with pytest.raises(pageferry.Interrupted, match="no guest had been started"):
        pageferry.migrate(**SMALL, net="rate=1mbit", link="relay", on_status=at("making", ctrl_c))


def test_a_comparison_has_a_row_a_case(tmp_path: Path) -> None:
    options = {name: value for name, value in SMALL.items() if name != "strategy"}
    reports = pageferry.compare(strategies=["pre-copy", "stop-and-copy"], **options)
    assert reports.check() is reports
    assert reports.labels == ["pre-copy", "stop-and-copy"]
    assert [report.strategy for report in reports] == reports.labels
    assert [row["outcome"] for row in reports.table] == ["completed", "completed"]
    assert reports._repr_html_().count("<svg") == 2
    reports.save(tmp_path / "both.json")
    assert list(pageferry.Reports.load(tmp_path / "both.json")) == list(reports)


def test_a_comparison_that_is_interrupted_has_what_had_finished() -> None:
    options = {name: value for name, value in SMALL.items() if name != "strategy"}
    with pytest.raises(pageferry.Interrupted) as raised:
        pageferry.compare(
            strategies="stop-and-copy,pre-copy",
            **options,
            on_status=at("run 2 of 2", ctrl_c),
        )
    assert raised.value.reports is not None
    assert raised.value.reports.labels == ["stop-and-copy"]
    assert raised.value.reports.interrupted
    with pytest.raises(pageferry.MigrationError):
        raised.value.reports.check()


def test_a_prediction_moves_nothing() -> None:
    prediction = pageferry.predict(memory="16MiB", warmup=0.05, measure="100ms")
    assert {each.strategy for each in prediction.prediction.strategies} >= {"pre-copy"}
    assert "predict" not in prediction.config


def test_ctrl_c_ends_a_prediction() -> None:
    with pytest.raises(pageferry.Interrupted, match="nothing was predicted"):
        pageferry.predict(
            memory="16MiB", warmup=0.05, measure=60, on_status=at("measuring", ctrl_c)
        )
