"""Measured migrations beside simulated ones: strategies x loads x rates, and the errors' medians.

Each cell is migrated for real and simulated twice: from its options alone, and from the report of
its fastest run as `simulate --from` does. Only the first of them is a prediction. One part goes
over loopback, at a limited rate; the other without a limit over links with a rate and a delay,
which takes root. Of several runs the least total and the least downtime count: whatever else a host
has to do makes a migration slower, and never faster, and is no part of the model. Downtimes are
those of runs with as many rounds as the fastest. Runs are interleaved.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import re
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from pageferry.common.config.model import MigrationConfig
from pageferry.common.process import signals
from pageferry.common.report.schema import Report
from pageferry.common.units import format_rate
from pageferry.net.options import NetOptions
from pageferry.runs.series import run_once
from pageferry.runs.simulate_from import MeasuredMigration
from pageferry.runs.tables import Sheet, three_digits, wide_console
from pageferry.sim.conditions import simulated_conditions
from pageferry.sim.reporting import make_simulated_report, play
from pageferry.sweeps.settings import SimulateCell

STRATEGIES = ("stop-and-copy", "pre-copy", "three-path", "hybrid", "post-copy")
LOADS = (
    "uniform:working-set=50%,rate=40MB/s,lines=8",
    "zipf:rate=60MB/s,lines=2",
    "io-intensive:rate=25MB/s",
    "memory-intensive",
)
RATES = ("50MB/s", "100MB/s")
LINKS = ("rate=100mbit,delay=5ms", "rate=400mbit,delay=20ms")
LINK_LOADS = ("uniform:working-set=50%,rate=20MB/s,lines=8",)


@dataclass(frozen=True)
class Case:
    """net: as `--net` has it; None: loopback."""

    config: MigrationConfig
    net: str | None

    @property
    def at(self) -> str:
        """What holds its pages up."""
        return self.net or format_rate(self.config.max_bandwidth)

    @property
    def name(self) -> str:
        """For its reports' files."""
        text = f"{self.config.strategy} {self.config.workload} {self.at} {self.config.memory}"
        return re.sub(r"[^\w.]+", "-", text)


@dataclass(frozen=True)
class Cell:
    """Of the runs, ms and bytes. off_*: simulated / measured - 1; again_*: of --from.

    spread_*: the median of the runs / the least - 1. shaped: over a link of its own.
    """

    strategy: str
    load: str
    at: str
    shaped: bool
    runs: int
    total_ms: float
    downtime_ms: float
    bytes: float
    rounds: int
    spread_total: float
    spread_downtime: float
    off_total: float
    off_downtime: float
    off_bytes: float
    simulated_rounds: int
    again_total: float
    again_downtime: float


def measure(case: Case) -> Report | None:
    """Raises `KeyboardInterrupt`."""
    result, interrupted = run_once(case.config, None, lambda _: None, net=NetOptions(net=case.net))
    if result is None or interrupted:
        raise KeyboardInterrupt
    report = result.report
    if result.error is not None or report is None or report.outcome != "completed":
        print(f"{case.config.strategy}, {case.at}: {result.error}", file=sys.stderr)
        return None
    return report


def cell(case: Case, measured: list[Report]) -> Cell:
    config = case.config
    fastest = min(measured, key=lambda report: report.total_time_ms or 0.0)
    totals = [report.total_time_ms or 0.0 for report in measured]
    alike = [report for report in measured if len(report.rounds) == len(fastest.rounds)]
    downtimes = [report.downtime_ms or 0.0 for report in alike]
    link = SimulateCell.model_validate(config.model_dump() | {"net": case.net}).simulated_link
    blind = make_simulated_report(play(config, simulated_conditions(config, link)), {})
    conditions = MeasuredMigration(fastest, config, ()).conditions(None, None)
    again = make_simulated_report(play(config, conditions), {})
    return Cell(
        config.strategy,
        config.workload,
        case.at,
        case.net is not None,
        len(measured),
        min(totals),
        min(downtimes),
        fastest.bytes_on_wire,
        len(fastest.rounds),
        off(statistics.median(totals), min(totals)),
        off(statistics.median(downtimes), min(downtimes)),
        off(blind.total_time_ms, min(totals)),
        off(blind.downtime_ms, min(downtimes)),
        off(blind.bytes_on_wire, fastest.bytes_on_wire),
        len(blind.rounds),
        off(again.total_time_ms, fastest.total_time_ms),
        off(again.downtime_ms, fastest.downtime_ms),
    )


def off(simulated_: float | None, measured: float | None) -> float:
    return (simulated_ or 0.0) / (measured or 1.0) - 1


def sheet(cells: list[Cell], where: str) -> Sheet:
    return Sheet(
        f"measured {where}, and how far the simulation is off",
        (
            "strategy",
            "load",
            "at",
            "total ms",
            "median",
            "off",
            "downtime ms",
            "median",
            "off",
            "bytes off",
            "rounds",
            "simulated",
            "--from: total off",
            "downtime off",
        ),
        tuple(
            (
                each.strategy,
                each.load,
                each.at,
                three_digits(each.total_ms),
                f"{each.spread_total:+.1%}",
                f"{each.off_total:+.1%}",
                three_digits(each.downtime_ms),
                f"{each.spread_downtime:+.1%}",
                f"{each.off_downtime:+.1%}",
                f"{each.off_bytes:+.1%}",
                f"{each.rounds}",
                f"{each.simulated_rounds}",
                f"{each.again_total:+.1%}",
                f"{each.again_downtime:+.1%}",
            )
            for each in cells
        ),
        left=3,
    )


def medians(cells: list[Cell]) -> Sheet:
    """Of the errors' sizes, by strategy and in all."""
    names = ("off_total", "off_downtime", "off_bytes", "again_total", "again_downtime")
    groups = {name: [c for c in cells if c.strategy == name] for name in STRATEGIES}
    rows = []
    for name, group in [*groups.items(), ("all", cells)]:
        if group:
            errors = [statistics.median(abs(getattr(c, what)) for c in group) for what in names]
            rows.append((name, f"{len(group)}", *(f"{error:.1%}" for error in errors)))
    columns = ("median error of", "total", "downtime", "bytes", "--from: total", "downtime")
    return Sheet("how far off, whichever way", (columns[0], "cells", *columns[1:]), tuple(rows))


def config_of(strategy: str, load: str, **values: object) -> MigrationConfig:
    known = {"strategy": strategy, "workload": load, "verify": False, "run_after": 0.0}
    return MigrationConfig.model_validate(known | values)


def cases(options: argparse.Namespace) -> list[Case]:
    """Over loopback."""
    grid = itertools.product(options.strategies.split(","), options.loads, options.rates.split(","))
    return [
        Case(config_of(strategy, load, memory=options.memory, max_bandwidth=rate), None)
        for strategy, load, rate in grid
    ]


def delayed(options: argparse.Namespace) -> list[Case]:
    """Over links, where there can be any."""
    if options.links and os.geteuid() != 0:
        print("links with a delay take root: that part is left out", file=sys.stderr)
        return []
    strategies = options.strategies.split(",")
    grid = itertools.product(strategies, options.link_loads, options.links)
    known = {"memory": options.link_memory, "max_bandwidth": math.inf, "warmup": 0.3}
    return [Case(config_of(strategy, load, **known), link) for strategy, load, link in grid]


def run_all(all_cases: list[Case], runs: int, keep: Path | None) -> list[Cell]:
    """keep: a folder of reports. Runs that are in there already are not run again."""
    measured: dict[int, list[Report]] = {number: [] for number in range(len(all_cases))}
    try:
        with signals.raising():
            for turn, (number, case) in itertools.product(range(runs), enumerate(all_cases)):
                file = keep / f"{case.name}-{turn + 1}.json" if keep else None
                if file is not None and file.exists():
                    measured[number].append(Report.model_validate_json(file.read_text()))
                    continue
                report = measure(case)
                if report is None:
                    continue
                measured[number].append(report)
                print(f"{turn + 1}.{number + 1}: {report.total_time_ms:.0f} ms", file=sys.stderr)
                if file is not None:
                    file.write_text(report.to_json())
    except KeyboardInterrupt:
        print("interrupted: what has been measured so far", file=sys.stderr)
    return [cell(all_cases[number], reports) for number, reports in measured.items() if reports]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--loads", nargs="*", default=LOADS)
    parser.add_argument("--rates", default=",".join(RATES))
    parser.add_argument("--memory", default="128MiB")
    parser.add_argument("--links", nargs="*", default=LINKS, help="as `--net` has them; needs root")
    parser.add_argument("--link-loads", nargs="*", default=LINK_LOADS)
    parser.add_argument("--link-memory", default="64MiB")
    parser.add_argument("--runs", type=int, default=1, help="of each cell: the least counts")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of reports: to go on later")
    parser.add_argument("--json", action="store_true", help="cells as JSON on standard output")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    cells = run_all(cases(options) + delayed(options), options.runs, options.keep)
    if options.json:
        print(json.dumps([asdict(each) for each in cells], indent=1))
        return
    console = wide_console()
    for where, shaped in (("over loopback", False), ("over links with a delay", True)):
        if part := [each for each in cells if each.shaped == shaped]:
            sheet(part, where).print(console)
            medians(part).print(console)


if __name__ == "__main__":
    main()
