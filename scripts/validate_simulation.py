"""Measured migrations beside simulated ones: strategies x loads x rates, and the errors' medians.

Each cell is migrated for real, over loopback, and simulated twice: from its options alone, and from
the report of its fastest run as `simulate --from` does. Only the first of them is a prediction. Of
several runs the least total and the least downtime count: whatever else a host has to do makes a
migration slower, and never faster, and is no part of the model. Downtimes are
those of runs with as many rounds as the fastest. Runs are interleaved.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from dataclasses import asdict, dataclass

from common.cli import TlsOptions
from common.config import MigrationConfig
from common.errors import EXIT_CANCELLED, CancelledByUser
from common.report import Report
from common.units import format_rate
from lab.pair import Pair
from lab.sim.conditions import simulated
from lab.sim.link import Link
from lab.sim.reporting import make_report, play
from lab.simulate_from import Measured
from lab.tables import Sheet, milliseconds, wide_console

STRATEGIES = ("stop-and-copy", "pre-copy", "three-path", "hybrid", "post-copy")
LOADS = (
    "uniform:working-set=50%,rate=40MB/s,lines=8",
    "zipf:rate=60MB/s,lines=2",
    "io-intensive:rate=25MB/s",
    "memory-intensive",
)
RATES = ("50MB/s", "100MB/s")


@dataclass(frozen=True)
class Cell:
    """Of the runs, ms and bytes. off_*: simulated / measured - 1; again_*: of --from.

    spread_*: the median of the runs / the least - 1.
    """

    strategy: str
    load: str
    rate: str
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


def measure(config: MigrationConfig) -> Report | None:
    result = Pair(config, None, TlsOptions()).run(lambda _: None)
    report = result.report
    if result.exit_code == EXIT_CANCELLED:
        raise KeyboardInterrupt
    if result.error is not None or report is None or report.outcome != "completed":
        print(f"{config.strategy}, {config.workload}: {result.error}", file=sys.stderr)
        return None
    return report


def cell(config: MigrationConfig, measured: list[Report]) -> Cell:
    fastest = min(measured, key=lambda report: report.total_time_ms or 0.0)
    totals = [report.total_time_ms or 0.0 for report in measured]
    alike = [report for report in measured if len(report.rounds) == len(fastest.rounds)]
    downtimes = [report.downtime_ms or 0.0 for report in alike]
    blind = make_report(play(config, simulated(config, Link())), {})
    conditions = Measured(fastest, config, ()).conditions(None, None)
    again = make_report(play(config, conditions), {})
    return Cell(
        config.strategy,
        config.workload,
        format_rate(config.max_bandwidth),
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


def sheet(cells: list[Cell]) -> Sheet:
    return Sheet(
        "measured, and how far the simulation is off",
        (
            "strategy",
            "load",
            "limit",
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
                each.rate,
                milliseconds(each.total_ms),
                f"{each.spread_total:+.1%}",
                f"{each.off_total:+.1%}",
                milliseconds(each.downtime_ms),
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


def cases(options: argparse.Namespace) -> list[MigrationConfig]:
    grid = itertools.product(options.strategies.split(","), options.loads, options.rates.split(","))
    return [
        MigrationConfig.model_validate(
            {
                "memory": options.memory,
                "strategy": strategy,
                "workload": load,
                "max_bandwidth": rate,
                "verify": False,
                "run_after": 0.0,
            }
        )
        for strategy, load, rate in grid
    ]


def run_all(configs: list[MigrationConfig], runs: int) -> list[Cell]:
    measured: dict[int, list[Report]] = {number: [] for number in range(len(configs))}
    try:
        for turn, number in itertools.product(range(runs), range(len(configs))):
            report = measure(configs[number])
            if report is not None:
                measured[number].append(report)
                print(f"{turn + 1}.{number + 1}: {report.total_time_ms:.0f} ms", file=sys.stderr)
    except (KeyboardInterrupt, CancelledByUser):
        print("interrupted: what has been measured so far", file=sys.stderr)
    return [cell(configs[number], reports) for number, reports in measured.items() if reports]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--loads", nargs="*", default=LOADS)
    parser.add_argument("--rates", default=",".join(RATES))
    parser.add_argument("--memory", default="128MiB")
    parser.add_argument("--runs", type=int, default=1, help="of each cell: the least counts")
    parser.add_argument("--json", action="store_true", help="cells as JSON on standard output")
    options = parser.parse_args()
    cells = run_all(cases(options), options.runs)
    if options.json:
        print(json.dumps([asdict(each) for each in cells], indent=1))
        return
    console = wide_console()
    sheet(cells).print(console)
    medians(cells).print(console)


if __name__ == "__main__":
    main()
