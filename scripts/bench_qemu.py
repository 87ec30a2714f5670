"""Migrations under QEMU, and the same ones of ours, in turn on this machine.

Both have one guest of the same size that writes one word (ours: one line) of each page of the same
working set; the same limit of bandwidth and of downtime; the host's own congestion control, since
QEMU's can't be chosen; no checksums, since QEMU has none. Ours is given what QEMU is given: where a
row compares a way of sending pages, ours sends whole pages, too.

Downtime is measured alike: from the source's stop to the destination's resume. QEMU's own figure
leaves out the destination's part (of pre-copy), so its events' times are taken, which are of one
clock. It lifts its limit of bandwidth for the final stop, which ours keeps.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pageferry.common.errors import UsageError
from pageferry.common.units import format_rate, format_size
from pageferry.common.wire.congestion import DEFAULT_CONGESTION
from scripts.bench_children import folder
from scripts.bench_children import migrated as migrated_by_us
from scripts.bench_qemu_machine import (
    PROGRAM,
    Accelerator,
    Outcome,
    QemuCase,
    accelerator,
    installed,
    migrated,
)
from scripts.bench_rows import Bar, Bench, Effort, Row, absent, ratio_at_least, row

MIB = 2**20
RATE_BPS = 100e6
HOST_CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")
QUICK_MEMORY = 64 * MIB
QUICK_WORKING_SET = 16 * MIB
NOT_INSTALLED = f"{PROGRAM} is not installed"


@dataclass(frozen=True)
class Comparison:
    """One case for both. once: it takes its whole timeout, or nearly, so that once is enough.

    bar: of guest memory a second.
    """

    title: str
    qemu: QemuCase
    ours: dict[str, Any] = field(default_factory=dict)
    once: bool = False
    bar: Bar | None = None


FLAT_OUT = QemuCase(512 * MIB, working_set=256 * MIB, max_bandwidth=RATE_BPS)
WHOLE_PAGES = {"granularity": "page", "max_rounds": 1000}


# Both remember every page: a smaller cache forgets each of them before it comes again.
XBZRLE = {"delta": "xbzrle", "delta_cache": FLAT_OUT.memory, **WHOLE_PAGES}


def comparisons() -> dict[str, Comparison]:
    idle = QemuCase(1024 * MIB)
    xbzrle = replace(
        FLAT_OUT,
        capabilities=["xbzrle"],
        parameters={"xbzrle-cache-size": FLAT_OUT.memory},
        timeout_s=60.0,
    )
    converging = replace(FLAT_OUT, capabilities=["auto-converge"], timeout_s=90.0)
    some = QemuCase(512 * MIB, 24 * MIB, 40 * MIB, RATE_BPS)
    return {
        "unlimited": Comparison(
            "1 GiB idle, unlimited, QEMU's destination preallocated",
            replace(idle, preallocated=True),
            bar=ratio_at_least(1.5),
        ),
        "defaults": Comparison(
            f"the same, ours with {DEFAULT_CONGESTION}, as is its default",
            replace(idle, preallocated=True),
            {"congestion": DEFAULT_CONGESTION},
            bar=ratio_at_least(1.5),
        ),
        "fresh": Comparison("1 GiB idle, unlimited", idle),
        "limited": Comparison("512 MiB idle", QemuCase(512 * MIB, max_bandwidth=RATE_BPS)),
        "some": Comparison("24 MiB written at 40 MiB/s", some, WHOLE_PAGES),
        "pre-copy": Comparison(
            "256 MiB written flat out, pre-copy",
            replace(FLAT_OUT, timeout_s=20.0),
            WHOLE_PAGES,
            once=True,
        ),
        "xbzrle": Comparison("256 MiB written flat out, xbzrle", xbzrle, XBZRLE),
        "auto-converge": Comparison(
            "256 MiB written flat out, auto-converge",
            converging,
            {"auto_converge": True, **WHOLE_PAGES},
            once=True,
        ),
        "post-copy": Comparison(
            "256 MiB written flat out, post-copy at once",
            replace(FLAT_OUT, post_copy=True),
            {"strategy": "post-copy"},
        ),
    }


def require() -> None:
    """Raises `UsageError` where there is no QEMU."""
    if not installed():
        raise UsageError(f"{NOT_INSTALLED}: this part compares with it")


def small(case: QemuCase) -> QemuCase:
    """To see that it works."""
    working_set = min(case.working_set, QUICK_WORKING_SET)
    cache = {"xbzrle-cache-size": QUICK_MEMORY} if case.parameters else {}
    timeout_s = min(case.timeout_s, 3.0)
    return replace(
        case, memory=QUICK_MEMORY, working_set=working_set, parameters=cache, timeout_s=timeout_s
    )


def workload(case: QemuCase) -> str:
    """Ours that writes the same pages."""
    if not case.working_set:
        return "idle"
    rate = format_rate(case.dirty_rate) if case.dirty_rate else "max"
    return f"sequential:working-set={format_size(case.working_set)},rate={rate},lines=1"


def ours(case: QemuCase, options: dict[str, Any]) -> Outcome:
    settled = {
        "memory": case.memory,
        "workload": workload(case),
        "strategy": "pre-copy",
        "max_bandwidth": case.max_bandwidth or math.inf,
        "downtime_limit": 0.3,
        "timeout": case.timeout_s,
        "warmup": 0.5,
        "checksum": False,
        "congestion": HOST_CONGESTION.read_text().strip(),
        **options,
    }
    report = migrated_by_us(**settled)
    postcopy, cpu = report.postcopy, report.cpu_s
    return Outcome(
        report.total_time_ms
        if report.outcome == "completed" and report.total_time_ms
        else math.inf,
        report.downtime_ms if report.outcome == "completed" else None,
        report.bytes_on_wire,
        cpu.source if cpu else math.nan,
        (cpu.dest or 0.0) if cpu else math.nan,
        postcopy.faults if postcopy else 0,
    )


def compare(name: str, effort: Effort) -> list[Row]:
    comparison = comparisons()[name]
    if not installed():
        return [absent(comparison.title, NOT_INSTALLED)]
    case = small(comparison.qemu) if effort.quick else comparison.qemu
    found: dict[str, list[Outcome]] = defaultdict(list)
    accel = accelerator()
    with folder() as where:
        for _ in range(1 if comparison.once else effort.runs):
            found["QEMU"].append(migrated(case, where, accel))
            found["ours"].append(ours(case, comparison.ours))
    return rows(comparison, case, accel, found["ours"], found["QEMU"])


def rows(
    comparison: Comparison,
    case: QemuCase,
    accel: Accelerator,
    mine: list[Outcome],
    theirs: list[Outcome],
) -> list[Row]:
    """What both cost. A migration that was given up has no times; how often that was is noted."""
    against = f"QEMU ({accel})"
    gave_up = [
        f"{who}: {late} of {len(runs)} not within {case.timeout_s:g} s"
        for who, runs in (("ours", mine), ("QEMU", theirs))
        if (late := sum(each.downtime_ms is None for each in runs))
    ]
    note = "; ".join(gave_up)

    def figures(unit: str, what: str, of: Callable[[Outcome], float | None]) -> Row:
        values, references = (
            [x for each in runs if (x := of(each)) is not None and math.isfinite(x)]
            for runs in (mine, theirs)
        )
        return row(
            what, unit, values, references, group=comparison.title, against=against, note=note
        )

    out = [
        figures("ms", "total", lambda each: None if each.downtime_ms is None else each.total_ms),
        figures("ms", "downtime", lambda each: each.downtime_ms),
        figures("MB", "sent", lambda each: each.bytes / 1e6),
        figures("s", "source's CPU", lambda each: each.source_cpu_s),
        figures("s", "destination's CPU", lambda each: each.dest_cpu_s),
    ]
    if case.post_copy:
        out.append(figures("", "faults", lambda each: float(each.faults)))
    if comparison.bar is not None and not gave_up:
        rates = ([case.memory / each.total_ms / 1e3 for each in runs] for runs in (mine, theirs))
        group, bar = comparison.title, comparison.bar
        out.append(row("guest memory", "MB/s", *rates, group=group, against=against, bar=bar))
    return out


BENCHES: dict[str, Bench] = {name: partial(compare, name) for name in comparisons()}
