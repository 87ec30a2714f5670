"""Cells with a link of their own, and cells that are simulated."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from pageferry.cli import make_app
from pageferry.common.command_line.run import run_app
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import UsageError
from pageferry.net.options import NetOptions
from pageferry.pair import PairResult
from pageferry.runs import series
from pageferry.runs.series import Signals
from pageferry.sweeps.cell import Order, run_cell
from pageferry.sweeps.cell_filter import parse_filter
from pageferry.sweeps.cells import Cell, make_cells
from pageferry.sweeps.columns import option_columns, result_columns, value_text
from pageferry.sweeps.curves import curves
from pageferry.sweeps.driver import option_texts, run_here
from pageferry.sweeps.maps import choose_axes, maps
from pageferry.sweeps.parquet import read_parquet
from pageferry.sweeps.query import Query
from pageferry.sweeps.runners import RUNNERS
from pageferry.sweeps.settings import _LATER, MigrateCell, SimulateCell
from tests.support.sweep_tables import Kept, moved, plan, run

BOTH = """
[options]
memory = "8MiB"
max-bandwidth = "unlimited"
workload = "uniform"
net = "rate=100mbit,loss=0.1%"
[grid]
net.delay = ["0ms", "5ms"]
workload.rate = ["4MB/s", "40MB/s"]
"""


def cells(text: str, runner: str = "migrate") -> list[Cell]:
    return make_cells(plan(text), RUNNERS[runner], "plan.toml")


BAD = {
    "grid.net.dely = ['1ms']": "plan.toml: grid.net.dely: unknown option, did you mean net.delay?",
    "options.net.delay = 5": "plan.toml: options.net.delay: '5' is not a time: expected a time",
    "grid.net.rate = ['fast']": "plan.toml: grid.net.rate: 'fast' is not a rate",
    "grid.net.loss = ['1%', 2]": "plan.toml: grid.net.loss: '2' is read in two ways",
    "grid.net.delay-back = ['61s']": "grid.net.delay-back: '61s' is too long",
    "grid.net.delay = ['1ms,loss=1%']": "plan.toml: grid.net.delay: .* without a comma",
    "options.net = 'delay=1ms'\ngrid.net.jitter = ['2ms']": (
        "plan.toml: grid.net.jitter: 2ms is above delay 1ms"
    ),
    "grid.net.jitter = ['2ms']": "plan.toml: grid.net.jitter: 2ms is above delay 0s",
    "options.net = 'rate'": "plan.toml: options.net: 'rate' is not NAME=VALUE",
    "options.net = 'speed=1mbit'": "plan.toml: options.net: a link has no 'speed': expected rate",
    "options.net = ['rate=1mbit']": "plan.toml: options.net: .* expected one value",
    "options.link = 'wire'": "plan.toml: options.link: 'wire': expected namespaces or relay",
    "options = {link = 'relay', net.loss = '1%'}": "options.link: relay has no loss",
    "options.schedule = 'at 1s'": "plan.toml: options.schedule: 'at 1s': expected something",
    "options.schedule = 'at 1s outage=1s'": "options.schedule: means nothing without net or link",
    "options = {net.delay = '1ms', schedule = 'at 1s loss=2'}": "options.schedule: at 1s: loss: ",
    "options.shaper = 'tc'": "plan.toml: options.shaper: means nothing without net or link",
    "options.guest-speed = 1e6": "plan.toml: options.guest-speed: unknown option",
    "grid.net.delay = ['5ms', '0.005s']": "net.delay=5ms and net.delay=0.005s are the same",
}
REFUSED = {
    "grid.compress = ['none', 'zstd']": "plan.toml: grid.compress: how pages shrink is measured",
    "options.delta = 'xbzrle'": "plan.toml: options.delta: how pages shrink is measured",
    "options.inject = ['connected:kill']": "plan.toml: options.inject: a simulation has no conn",
    "options.timeout = '5s'": "plan.toml: options.timeout: a simulated round cannot be cut",
    "options.predict = true": "plan.toml: options.predict: a simulation says nothing else",
    "options.max-bandwidth = 'unlimited'": (
        "plan.toml: nothing limits the link: expected max-bandwidth, or net.rate"
    ),
    "options = {net.delay = '1ms', schedule = 'at 1s outage=1s'}": (
        "plan.toml: options.schedule: a simulated link stays as it is"
    ),
    "options.net = 'delay=2ms,jitter=1ms'": "options.net: net.jitter: a simulated link has rate,",
    "grid.net.queue = ['1ms']": "plan.toml: grid.net.queue: a simulated link has rate, delay, loss",
    "grid.net.rate-back = ['1mbit']": "grid.net.rate-back: a simulated link is the same both ways",
    "options = {net.delay = '1ms', link = 'rate=1mbit'}": "options.link: the plan has a net alr",
    "options.link = 'speed=1mbit'": "plan.toml: options.link: a simulated link has no 'speed'",
    "options.guest-speed = 0": "plan.toml: options.guest-speed: '0' is too small",
}


@pytest.mark.parametrize(
    ("text", "runner", "words"),
    [
        *((text, "migrate", words) for text, words in BAD.items()),
        *((text, "simulate", words) for text, words in REFUSED.items()),
    ],
)
def test_one_line_where_it_is_wrong(text: str, runner: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        cells(text, runner)
    assert "\n" not in str(caught.value)


def keys(text: str) -> set[str]:
    return {cell.key for cell in cells(text)}


def test_a_link_is_part_of_a_cell_however_it_is_written() -> None:
    one = keys("options.net = 'rate=800mbit,delay=5ms'")
    assert one == keys("options.net = ' delay = 0.005s, rate = 100MB/s '")
    assert one == keys("options.net = 'rate=1mbit,delay=5ms'\ngrid.net.rate = ['800mbit']")
    assert one == keys("options = {net.rate = '800mbit', net.delay = '5ms', link = 'namespaces'}")
    assert one == keys("options.net = 'rate=800mbit,delay=5ms,delay-back=5ms,loss=0'")
    others = [
        *("net.rate = '800mbit'", "net = 'rate=800mbit,delay=5ms,delay-back=4ms'"),
        *("net = 'rate=800mbit,delay=6ms'", "link = 'namespaces'", "link = 'relay'", "seed = 1"),
        *("net = 'rate=800mbit,delay=5ms'\nshaper = 'tun'",),
        *("net = 'rate=800mbit,delay=5ms'\nlink = 'relay'",),
        *("net = 'rate=800mbit,delay=5ms'\nschedule = 'at 1s outage=1s'",),
    ]
    found = one.union(*(keys(f"[options]\n{each}") for each in others))
    assert len(found) == 1 + len(others)
    later = "[options]\nnet.delay = '0ms'\nschedule = '{}'"
    assert keys(later.format("at 1000ms outage=1s;")) == keys(later.format("1s  outage=1s"))


def test_a_cell_without_a_link_is_the_same_as_ever() -> None:
    for model in (MigrateCell, SimulateCell):
        known = MigrationConfig().model_dump()
        later = {name: known.pop(name) for name in _LATER}
        assert model().known_by() == known
        changed = {"path2_stop": "limit", "hold_write_backs": False, "line_tracker": "log"}
        assert later.keys() == changed.keys()
        for name, value in changed.items():
            cell = model.model_validate({name: value})
            assert cell.known_by() == known | {name: value}


def test_rows_have_what_the_link_was_asked_to_be() -> None:
    row = cells("options.net = 'rate=8mbit,delay=5ms,loss-back=1%'")[0].row
    expected = {
        "net": "rate=1MB/s,delay=5ms,loss-back=1%",
        "net_rate_Bps": 1e6,
        "net_delay_s": 0.005,
        "net_delay_back_s": 0.005,
        "net_loss": 0.0,
        "net_loss_back": 0.01,
        "net_queue_s": None,
    }
    assert {name: row[name] for name in expected} == expected
    assert cells("options.net.delay = '0ms'")[0].row["net_rate_Bps"] == math.inf
    assert cells("")[0].row["net_delay_s"] is None
    words = {"net.rate": "1MB/s", "net.delay": "5ms", "net.loss-back": "1%"}
    values = {"net.rate": 1e6, "net.delay": 0.005, "net.loss-back": 0.01}
    assert {option: value_text(option, value) for option, value in values.items()} == words
    simulated = cells("options.link = 'rate=8mbit,delay=5ms'", "simulate")[0].row
    assert (simulated["net_rate_Bps"], simulated["net_delay_s"]) == (1e6, 0.005)
    measured = {column.name for column in result_columns()}
    assert measured >= {"net_rtt_ms", "net_wire_Bps", "net_throughput_back_Bps", "net_shaper"}


def test_both_runners_have_the_same_columns() -> None:
    names = [
        {column.name for part in (option_columns, result_columns) for column in part(each.options)}
        for each in (RUNNERS["migrate"], RUNNERS["simulate"])
    ]
    assert names[1] - names[0] == {"guest_speed"}
    assert names[0] - names[1] == set()


def test_a_filter_knows_links() -> None:
    made = cells(BOTH)
    runner = RUNNERS["migrate"]

    def count(text: str) -> int:
        return sum(map(parse_filter(text, runner), (cell.row for cell in made)))

    assert count("net.delay=5000us") == 2
    assert count("net=loss=0.1%,rate=12.5MB/s,delay=5ms,workload.rate=4MB/s") == 1
    assert count("net.rate=1mbit|100mbit") == 4
    with pytest.raises(UsageError, match=r"--filter: net.delay: 'soon' is not a time"):
        parse_filter("net.delay=soon", runner)


def test_the_network_goes_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def run_once(config: MigrationConfig, *_: object, **others: Any) -> tuple[PairResult, bool]:
        seen.append((config, others))
        return PairResult(None, 1, "it broke"), False

    monkeypatch.setattr(series, "run_once", run_once)
    text = BOTH + "[[list]]\nschedule = ['at 1s outage=1s; at 3s rate=1mbit']\n"
    (cell, *_), kept, signals = cells(text), Kept(), Signals()
    run_here(
        [cell],
        runner=RUNNERS["migrate"],
        store=kept,
        watcher=kept,
        signals=signals,
        log_dir=None,
    )
    ((config, others),) = seen
    assert type(config) is MigrationConfig
    assert config.memory == 8 << 20
    assert others == {
        "net": NetOptions(
            net="rate=12.5MB/s,loss=0.1%", schedule=("at 1s outage=1s; at 3s rate=1mbit",)
        ),
        "signals": signals,
    }


def test_without_root_a_cell_has_failed_and_the_next_is_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    kept = Kept()
    run_here(
        cells("grid.net.delay = ['1ms', '2ms']"),
        runner=RUNNERS["migrate"],
        store=kept,
        watcher=kept,
        signals=Signals(),
        log_dir=None,
    )
    line = "--net needs root, for network namespaces: migrate --link relay shapes without"
    assert [(each.outcome, each.error) for each in kept.records.values()] == [("failed", line)] * 2


def test_a_simulation_of_a_net() -> None:
    slow, far = (
        cells(f"[options]\nmax-bandwidth = 'unlimited'\n{net}", "simulate")[0].config
        for net in ("net.rate = '100mbit'", "link = 'rate=100mbit,delay=5ms,mss=9000'")
    )
    assert isinstance(slow, SimulateCell)
    assert isinstance(far, SimulateCell)
    # Of the rate of a real link some goes to headers; that of a simulated one is of payload.
    assert slow.simulated_link.rate == pytest.approx(12.5e6 * 1448 / 1514)
    assert far.simulated_link.rate == 12.5e6
    assert (far.simulated_link.delay, far.simulated_link.mss) == (0.005, 9000)
    assert far.about_link == "rate=12.5MB/s,delay=5ms,mss=9000B"
    relay = SimulateCell.model_validate({"net": "rate=100mbit", "link": "relay"})
    assert relay.simulated_link.rate == 12.5e6


def test_a_worker_simulates_what_it_is_told_in_words() -> None:
    (cell, *_) = cells(BOTH + "guest-speed = ['1e6']", "simulate")
    order = Order(token="a", runner="simulate", options=option_texts(cell))  # noqa: S106
    report = run_cell(order).report
    assert report is not None
    assert report.config["simulated"] is True
    assert report.config["guest_speed"] == 1e6
    assert report.total_time_ms == pytest.approx((8 << 20) / 12.5e6 * 1514 / 1448 * 1e3, rel=0.1)


def sweep(*arguments: object) -> int:
    return run_app(make_app(), ["sweep", *map(str, arguments)])


def test_a_plan_is_simulated_beside_its_own_runner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "plan.toml", tmp_path / "plan-simulate"
    file.write_text(BOTH + "strategy = ['pre-copy', 'stop-and-copy']\n")
    assert sweep(file, "--runner", "simulate") == 0
    assert "plan-simulate: 8 of 8 cells have finished" in capsys.readouterr().out
    rows = read_parquet(folder / "results.parquet").table.to_pylist()
    assert {(row["runner"], row["outcome"], row["net_rtt_ms"]) for row in rows} == {
        ("simulate", "completed", None)
    }
    began = {row["cell"]: row["started"] for row in rows}
    file.write_text(file.read_text().replace('"5ms"', '"5ms", "20ms"'))
    assert sweep(file, "--runner", "simulate", "--quiet") == 0
    rows = read_parquet(folder / "results.parquet").table.to_pylist()
    assert len(rows) == 12
    assert began.items() <= {row["cell"]: row["started"] for row in rows}.items()
    capsys.readouterr()
    assert sweep("show", folder, "--x", "net.delay", "--y", "workload.rate") == 0
    out = capsys.readouterr().out
    head = next(line for line in out.splitlines() if "\\ net.delay" in line)
    assert head.split() == ["workload.rate", "\\", "net.delay", "0s", "5ms", "20ms"]
    assert sweep(file, "--runner", "dream") == 2
    assert "--runner: unknown 'dream', expected one of migrate, simulate" in capsys.readouterr().err
    assert sweep(file, "--runner", "simulate", "--log-dir", tmp_path / "logs") == 2
    assert "--log-dir: runner simulate writes no logs" in capsys.readouterr().err


class TestShown:
    """Maps and curves over the parts of a net."""

    TEXT = """
    [options]
    memory = "4MiB"
    workload = "uniform"
    [grid]
    strategy = ["pre-copy", "stop-and-copy"]
    max-bandwidth = ["20MB/s", "unlimited"]
    net.rate = ["80mbit", "320mbit"]
    workload.rate = ["4MB/s", "80MB/s"]
    """

    def query(self) -> Query:
        return Query(run(self.TEXT, moved)[0], RUNNERS["migrate"])

    def test_parts_of_a_net_are_axes(self) -> None:
        query = self.query()
        found = maps(query, "downtime_ms", *choose_axes(query, "net.rate", "workload.rate"))
        assert [each.title for each in found] == [
            *("max-bandwidth = 20MB/s", "max-bandwidth = unlimited")
        ]
        assert {each.columns for each in found} == {(1e7, 4e7)}

    def test_the_bandwidth_is_that_of_the_link_where_it_is_lower(self) -> None:
        found = {each.title: each.curves for each in curves(self.query())}
        limits = {
            title: sorted((c.bandwidth_Bps, *(ratio for ratio, _ in c.points)) for c in lines)
            for title, lines in found.items()
        }
        assert limits == {
            "max-bandwidth = 20MB/s": [(1e7, 0.4, 8.0)] * 2 + [(2e7, 0.2, 4.0)] * 2,
            "max-bandwidth = unlimited": [(1e7, 0.4, 8.0)] * 2 + [(4e7, 0.1, 2.0)] * 2,
        }

    def test_results_of_a_version_without_links(self) -> None:
        results, _ = run(self.TEXT.replace("net.rate", "vcpus").replace('"80mbit", "320mbit"', "1"))
        names = [n for n in results.table.column_names if not n.startswith("net_")]
        old = Query(
            type(results)(results.table.select(names), results.name, "migrate", results.axes, 8),
            RUNNERS["migrate"],
        )
        (found,) = curves(old)
        assert {curve.bandwidth_Bps for curve in found.curves} == {2e7}
