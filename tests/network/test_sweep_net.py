"""Cells of a sweep through networks of their own, and that nothing is left of one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pageferry.sweeps.parquet import read_parquet
from tests.network.test_migrate_net import during
from tests.support.harness import agent
from tests.support.network_needs import assert_gone, networks_of, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

# The second one takes seven seconds at the least.
PLAN = """
[options]
memory = "8MiB"
warmup = "10ms"
run-after = "10ms"
max-bandwidth = "unlimited"
strategy = "pre-copy"
net.delay = "1ms"
shaper = "tun"
[grid]
net.rate = ["800mbit", "10mbit"]
"""


def test_ctrl_c_keeps_what_has_finished_and_removes_the_network(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    with agent("sweep", str(plan)) as running:
        running.wait_status(lambda key, _value: key == "finished")
        started = during(running, lambda status: status["round"] >= 1)
        assert len(networks_of(running.process.pid)) == 1
        running.process.send_signal(signal.SIGINT)
        run = running.end()
        assert_gone(running.process.pid, started)
    assert run.exit_code == 130, run.stderr
    assert "1 of 2 cells have finished, they are kept" in run.complaint
    (row,) = read_parquet(tmp_path / "plan" / "results.parquet").table.to_pylist()
    assert (row["net_link"], row["net_shaper"], row["verified"]) == ("namespaces", "tun", True)
    assert row["net_rtt_ms"] >= 1.9
    assert row["net_wire_Bps"] < 1.1e8
