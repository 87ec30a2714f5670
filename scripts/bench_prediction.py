#!/usr/bin/env python3
"""How true predictions are: whole migrations with --predict, a table, and the errors' spread.

    .venv/bin/python scripts/bench_prediction.py [--memory 256MiB] [--max-bandwidth 100MB/s]
        [--workloads 'A;B'] [--strategies a,b] [--runs N] [--more 'cache=0 dirty_tracker=kernel']

Every run is a pair of agents on loopback, verified, with another seed in each of the N. A downtime
is hit where the prediction is within a factor of two, or within 5 ms, of what was measured. The
second summary leaves out runs in which this host could not keep the rate that was reckoned with:
they say more about who else was busy than about the guest.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
from dataclasses import dataclass

from pageferry.common.config.model import MigrationConfig
from pageferry.common.report.schema import Report
from pageferry.common.units import human_bytes
from pageferry.pair import Pair

LOADS = "idle;io-intensive;memory-intensive;uniform:working-set=16MiB,rate=20MB/s"
STRATEGIES = "pre-copy,post-copy,three-path"
NEAR_MS = 5.0
KEPT_SHARE = 0.97  # of the bandwidth, headers and all: what an undisturbed run reaches


def options() -> argparse.Namespace:
    """What to run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--memory", default="256MiB")
    parser.add_argument("--max-bandwidth", default="100MB/s")
    parser.add_argument("--workloads", default=LOADS)
    parser.add_argument("--strategies", default=STRATEGIES)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--more", default="", help="further options: NAME=VALUE ...")
    return parser.parse_args()


def run(config: MigrationConfig) -> Report:
    """One migration; ends the bench where it was not verified."""
    result = Pair(config, None).run(lambda _status: None)
    report = result.report
    if report is None or result.error is not None or report.verified is not True:
        sys.exit(f"{config.strategy} of {config.workload}: {result.error}")
    return report


def hit(predicted_ms: float, measured_ms: float) -> bool:
    """Within a factor of two, or 5 ms."""
    near = abs(predicted_ms - measured_ms) <= NEAR_MS
    return near or measured_ms / 2 <= predicted_ms <= 2 * measured_ms


@dataclass(frozen=True)
class Result:
    """One run. total: the relative error; down_ms: the absolute one; reached: of the bandwidth."""

    row: str
    total: float
    down_ms: float
    bytes: float
    hit: bool
    reached: float


def result_of(report: Report) -> Result:
    """What was said, and what came of it."""
    made = report.prediction
    assert made is not None  # noqa: S101
    assert made.taken is not None  # noqa: S101
    assert report.downtime_ms is not None  # noqa: S101
    assert report.total_time_ms is not None  # noqa: S101
    said = next(each for each in made.strategies if each.strategy == report.strategy)
    good = hit(said.downtime_ms, report.downtime_ms)
    assert made.bandwidth is not None  # noqa: S101
    reached = report.bytes_on_wire / report.total_time_ms * 1e3 / made.bandwidth
    before = made.steps_per_s_before
    speed = made.steps_per_s_while / before - 1 if before else 0.0
    row = (
        f"{report.config['workload'][:30]:<30} {report.strategy:<13}"
        f" {said.path or '-'}/{report.path or '-'} {said.rounds:>2}/{len(report.rounds):<2}"
        f" total {said.total_time_ms:>7.0f} / {report.total_time_ms:<7.0f}"
        f" {100 * made.taken.total_time_error:+6.1f} %"
        f" down {said.downtime_ms:>7.1f} / {report.downtime_ms:<7.1f} {'' if good else 'MISS':<4}"
        f" bytes {100 * made.taken.bytes_error:+6.1f} % reached {100 * reached:5.1f} %"
        f" of {human_bytes(made.bandwidth)}/s guest {100 * speed:+.1f} %"
    )
    check = made.taken
    return Result(
        row, check.total_time_error, check.downtime_error_ms, check.bytes_error, good, reached
    )


def summary(name: str, results: list[Result]) -> str:
    """Medians and worst ones."""
    if not results:
        return f"{name}: none"
    totals = [abs(each.total) for each in results]
    sizes = [abs(each.bytes) for each in results]
    downs = [abs(each.down_ms) for each in results]
    return (
        f"{name}, {len(results)} runs, median and worst: total time off by"
        f" {100 * statistics.median(totals):.1f} and {100 * max(totals):.1f} %, bytes"
        f" {100 * statistics.median(sizes):.1f} and {100 * max(sizes):.1f} %, downtime"
        f" {statistics.median(downs):.2f} and {max(downs):.1f} ms;"
        f" {sum(each.hit for each in results)} downtimes hit"
    )


def main() -> None:
    """Run and print."""
    asked = options()
    more = dict(word.split("=", 1) for word in shlex.split(asked.more))
    results: list[Result] = []
    for seed in range(1, asked.runs + 1):
        for workload in asked.workloads.split(";"):
            for strategy in asked.strategies.split(","):
                given = {
                    "memory": asked.memory,
                    "max_bandwidth": asked.max_bandwidth,
                    "workload": workload,
                    "strategy": strategy,
                    "seed": seed,
                    "predict": True,
                    "run_after": 0.2,
                }
                results.append(result_of(run(MigrationConfig.model_validate(given | more))))
                print(results[-1].row, flush=True)
    print(summary("all", results))
    print(summary("undisturbed", [each for each in results if each.reached >= KEPT_SHARE]))


if __name__ == "__main__":
    main()
