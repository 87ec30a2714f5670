"""Migrations through networks that they make for themselves, and that nothing is left of."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pageferry.common.report.schema import Report
from pageferry.common.report.sections.network import NetReport
from tests.support.harness import Agent, agent, children_of
from tests.support.known import known
from tests.support.network_needs import assert_gone, networks_of, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

SMALL = (
    *("--workload", "zipf:rate=10MB/s", "--quiet"),
    *("--warmup", "100ms", "--run-after", "100ms", "--max-bandwidth", "unlimited"),
)


LONG = ("--memory", "16MiB", "--net", "rate=20mbit", "--strategy", "pre-copy")
SLACK = 1_000_000  # bytes: bursts, and what the last queue held


def family(pid: int) -> list[int]:
    """A run's processes, itself left out."""
    return [each for child in children_of(pid) for each in (child, *children_of(child))]


def moved(path: Path, *arguments: str) -> tuple[Report, NetReport]:
    """A whole run; nothing is left of its network. Its report."""
    with agent("migrate", "--json", str(path), *SMALL, *arguments) as running:
        started = during(running, lambda status: status["round"] >= 1)
        run = running.end()
        assert_gone(running.process.pid, started)
    assert run.exit_code == 0, run.stderr
    report = Report.model_validate_json(path.read_text())
    assert report.verified is True
    assert report.net is not None
    return report, report.net


def during(running: Agent, accept: Callable[[dict[str, Any]], bool]) -> list[int]:
    """Wait for a moment of the migration: the processes that there are then."""
    running.wait_status(lambda key, value: key == "status" and accept(value))
    return family(running.process.pid)


def test_a_rate_an_outage_and_another_rate(tmp_path: Path) -> None:
    report, net = moved(
        tmp_path / "report",
        *("--net", "rate=80mbit", "--strategy", "pre-copy", "--memory", "16MiB"),
        *("--schedule", "at 200ms outage=300ms; at 600ms rate=400mbit"),
    )
    assert (net.link, net.shaper) == ("namespaces", "tc")
    assert net.forward.rate_Bps == net.back.rate_Bps == 1e7
    assert net.throughput_Bps < net.wire_Bps < 1.2e7
    assert [change.change for change in net.schedule] == [
        *("outage=300ms", "outage over", "rate=400mbit")
    ]
    for change in net.schedule:
        assert change.applied_ms is not None
        assert change.applied_ms >= change.at_ms - 1
    # Nothing got through that the rates of the time had no room for, and nothing in the outage.
    began, over, faster = (change.applied_ms or 0 for change in net.schedule)
    assert report.total_time_ms is not None
    room = 1e4 * (began + faster - over) + 5e4 * (report.total_time_ms - faster)
    assert report.bytes_on_wire < room + SLACK


def test_a_delay_and_losses_in_the_userspace_link(tmp_path: Path) -> None:
    report, net = moved(
        tmp_path / "report",
        *("--net", "delay=2ms,jitter=500us,loss=1%,reorder=1%", "--shaper", "tun"),
        *("--strategy", "post-copy", "--memory", "8MiB"),
    )
    assert net.shaper == "tun"
    assert net.rtt_ms >= 2.9
    for packets in known(net.packets).values():
        assert packets["forwarded"] > 0
        assert packets["lost"] > 0
        assert packets["overtook"] > 0
    assert report.postcopy is not None
    latency = report.postcopy.fault_latency_us
    assert latency is not None
    # A page that was asked for came from the other end of the wire.
    assert known(latency.max) >= 2900


def test_ctrl_c_removes_the_network() -> None:
    with agent("migrate", *SMALL, *LONG) as running:
        started = during(running, lambda status: status["round"] >= 1)
        assert len(networks_of(running.process.pid)) == 1
        running.process.send_signal(signal.SIGINT)
        run = running.end()
        assert_gone(running.process.pid, started)
    assert run.exit_code == 130
    assert run.complaint == "pageferry: cancelled by the user: the guest goes on at the source"


def test_a_killed_run_leaves_nothing() -> None:
    with agent("migrate", *SMALL, *LONG) as running:
        started = during(running, lambda status: status["round"] >= 1)
        assert len(networks_of(running.process.pid)) == 1
        running.kill()
        assert_gone(running.process.pid, started)


def test_one_that_cannot_begin_leaves_nothing() -> None:
    arguments = ("--net", "rate=80mbit", "--memory", "1MiB", "--congestion", "nosuch")
    with agent("migrate", *SMALL, *arguments) as running:
        run = running.end()
        assert_gone(running.process.pid, [])
    assert run.exit_code in (1, 2)
    assert "nosuch" in run.complaint
