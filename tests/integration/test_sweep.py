"""`pageferry sweep` with real cells: killed, cancelled, failed and gone on with; on a cluster."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from pageferry.common.errors import UsageError
from pageferry.common.report.schema import Report
from pageferry.sweeps import cluster as dask_cluster
from pageferry.sweeps import worker
from pageferry.sweeps.cell import CellOutcome, Order
from pageferry.sweeps.cells import make_cells
from pageferry.sweeps.driver import option_texts
from pageferry.sweeps.parquet import read_parquet
from pageferry.sweeps.plan import parse_plan
from pageferry.sweeps.runners import runner_named
from tests.support.harness import agent, children_of, pageferry, wait_gone
from tests.support.tiers import FULL

TINY = """
[options]
memory = "4MiB"
cache = 0
max-bandwidth = "unlimited"
warmup = "10ms"
run-after = "10ms"
workload = "uniform:rate=4MB/s"
"""
# The last one can't be begun: there is no such congestion control.
THREE = (
    TINY
    + """[[list]]
strategy = ["stop-and-copy", "pre-copy", "pre-copy"]
congestion = ["cubic", "cubic", "telepathy"]
"""
)
# tests/support/sweep_killing.py does it many times, with cells that cost nothing.
KILLS = 8 if FULL else 1


def write(folder: Path, text: str) -> Path:
    file = folder / "plan.toml"
    file.write_text(text)
    return file


def records(folder: Path) -> dict[str, bytes]:
    return {file.stem: file.read_bytes() for file in (folder / "cells").glob("*.json")}


def of(key: str) -> Any:
    return lambda said, _value: said == key


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Of the Parquet file alone."""
    rows: list[dict[str, Any]] = read_parquet(folder / "results.parquet").table.to_pylist()
    return rows


def killed(plan: Path, chance: random.Random) -> list[int]:
    """A sweep, killed at a random moment of one of its cells; the agents that it leaves."""
    with agent("sweep", str(plan)) as running:
        running.wait_status(of("cell"))
        for _ in range(chance.randint(0, 8)):
            running.wait_status(lambda *_: True)
        left = children_of(running.process.pid)
        running.kill()
    return left


def cancelled(plan: Path) -> tuple[str, list[int]]:
    """A sweep that is cancelled in its second cell: which was the first, and its agents."""
    with agent("sweep", str(plan)) as running:
        first: str = running.wait_status(of("cell"))["key"]
        running.wait_status(of("finished"))
        running.wait_status(of("status"))
        left = children_of(running.process.pid)
        running.process.send_signal(signal.SIGINT)
        run = running.end()
    assert run.exit_code == 130, run.stderr
    assert "of 3 cells have finished, they are kept" in run.complaint
    return first, left


@pytest.mark.timeout(300)
def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed at random moments, cancelled in a cell, gone on with to its end."""
    chance = random.Random(5)  # noqa: S311
    plan, folder = write(tmp_path, THREE), tmp_path / "plan"
    left: list[int] = []
    seen: dict[str, bytes] = {}
    for _ in range(KILLS):
        if len(seen) < 2:  # so that one is left to be cancelled
            left += killed(plan, chance)
            now = records(folder)
            assert seen.items() <= now.items()
            seen = now
    if len(seen) < 2:
        first, agents = cancelled(plan)
        left += agents
        now = records(folder)
        assert seen.items() <= now.items()
        assert set(now) - set(seen) == {first}
        assert {row["cell"] for row in rows_of(folder)} == set(now)
        seen = now
    assert wait_gone(left) == []

    run = pageferry("sweep", str(plan))
    assert run.exit_code == 1, run.stderr
    assert "3 of 3 cells have finished, 1 of them failed" in run.stdout
    assert "congestion=telepathy: " in run.complaint
    done = records(folder)
    assert seen.items() <= done.items()
    rows = rows_of(folder)
    assert [row["cell"] for row in rows] == [*dict.fromkeys(row["cell"] for row in rows)]
    assert {row["cell"] for row in rows} == set(done)
    assert [(row["strategy"], row["outcome"], row["verified"]) for row in rows] == [
        ("stop-and-copy", "completed", True),
        ("pre-copy", "completed", True),
        ("pre-copy", "failed", None),
    ]
    for row in rows[:2]:
        report = Report.model_validate_json((folder / row["report"]).read_bytes())
        assert report.session == row["session"]
        assert report.downtime_ms == row["downtime_ms"] > 0


def test_a_cell_over_a_link_of_its_own(tmp_path: Path) -> None:
    """What was measured of the link before the cell used it is in the row, and it was measured."""
    text = TINY + 'link = "relay"\n[grid]\nnet.rate = ["80mbit"]\n'
    plan, folder = write(tmp_path, text), tmp_path / "plan"
    run = pageferry("sweep", str(plan))
    assert run.exit_code == 0, run.stderr
    (row,) = rows_of(folder)
    assert (row["net_link"], row["net_shaper"], row["verified"]) == ("relay", "relay", True)
    assert row["net_rate_Bps"] == row["net_forward_rate_Bps"] == 1e7
    assert 0 < row["net_throughput_Bps"] < 1.5e7
    assert row["total_time_ms"] > (4 << 20) / 1.5e7 * 1e3  # 4 MiB, and a queue that may be empty
    report = Report.model_validate_json((folder / row["report"]).read_bytes())
    assert report.net is not None
    assert report.net.rtt_ms == row["net_rtt_ms"]


@contextlib.contextmanager
def cluster() -> Iterator[LocalCluster]:
    """Two workers, each with two threads, of which one sweep must not use more than one."""
    made: Any = LocalCluster
    with made(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None) as running:
        yield running


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")  # of distributed's own making
def test_on_a_cluster_that_loses_a_worker(tmp_path: Path) -> None:
    plan, folder = write(tmp_path, TINY + "[grid]\nseed = [1, 2]\n"), tmp_path / "plan"
    with cluster() as running:
        address = running.scheduler_address
        client_of: Any = Client
        with client_of(address) as client:
            pids: dict[str, int] = client.run(os.getpid)
        victim = min(pids)
        with agent("sweep", str(plan), "--scheduler", address) as sweep:
            sweep.wait_status(of("cell"))
            sweep.wait_status(of("cell"))
            os.kill(pids[victim], signal.SIGKILL)
            run = sweep.end(250)
    assert run.exit_code == 0, run.stderr
    assert "2 workers are on 127.0.0.1" in run.complaint
    rows = rows_of(folder)
    assert len(rows) == len(records(folder)) == 2
    assert {row["verified"] for row in rows} == {True}
    assert victim not in {row["worker"] for row in rows}
    assert sorted(row["attempts"] for row in rows) == [1, 2]
    rows.sort(key=lambda row: (row["worker"], row["started"]))
    for one, other in itertools.pairwise(rows):
        if one["worker"] == other["worker"]:  # a worker never runs two at once
            ended = datetime.fromisoformat(one["started"]).timestamp() + one["cell_s"]
            assert ended <= datetime.fromisoformat(other["started"]).timestamp() + 0.01


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "_ANSWER_S", 0.5)
    with (
        pytest.raises(UsageError, match=r"--scheduler: no scheduler answers at tcp://127.0.0.1:1"),
        dask_cluster.connected("tcp://127.0.0.1:1"),
    ):
        pass


@pytest.mark.timeout(300)
def test_a_worker_is_told_to_stop(tmp_path: Path) -> None:
    """Before its cell has begun, and while it runs: a cell that would take a minute."""
    slow = TINY.replace('"unlimited"', '"70kB/s"')
    (cell,) = make_cells(parse_plan(slow.encode(), "plan"), runner_named("migrate"), "plan")
    order = Order(token="a", runner="migrate", options=option_texts(cell))  # noqa: S106
    worker.cancel_orders(["a"])
    assert CellOutcome.model_validate_json(worker.run_order(order.model_dump_json())).cancelled
    with ThreadPoolExecutor(2) as pool:
        running = [
            pool.submit(worker.run_order, order.model_copy(update={"token": t}).model_dump_json())
            for t in ("b", "c")
        ]
        agents = wait_agents()  # of one of them; the other one waits for it
        worker.cancel_orders(["b", "c"])
        found = [CellOutcome.model_validate_json(each.result(100)) for each in running]
    assert [(each.cancelled, each.result) for each in found] == [(True, None)] * 2
    assert wait_gone(agents) == []
    assert worker._running == {}
    assert worker._stopped == set()
    assert list(tmp_path.iterdir()) == []


def wait_agents() -> list[int]:
    """Both agents of the cell that a worker in this process runs, as soon as they are there."""
    deadline = time.monotonic() + 100
    while True:
        found = [process.pid for process in list(worker._running.values())]
        agents = children_of(found[0]) if found else []
        if len(agents) == 2:
            return agents
        assert time.monotonic() < deadline
        time.sleep(0.02)
