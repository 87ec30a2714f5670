"""`pageferry simulate --evacuate`: all guests of a host over one uplink, planned and shown."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pageferry.common.command_line.run import OutputOptions
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import EXIT_LIMIT_MISSED, EXIT_OK, UsageError
from pageferry.common.files.report_files import ReportFiles
from pageferry.common.process.notices import print_error
from pageferry.common.process.status import Status
from pageferry.common.report.binding_limit import binding_limit_text
from pageferry.common.units import format_rate, format_size, human_bytes, parse_rate
from pageferry.runs.tables import Sheet, factor, print_notes, three_digits, wide_console
from pageferry.sim.fleet import GuestKind, draw, everyone, read_fleet
from pageferry.sim.link import parse_link
from pageferry.sim.planning import Evacuation, EvacuationPlan, best_plan

if TYPE_CHECKING:
    from pageferry.sim.options import SimulationOptions

DEFAULT_UPLINK: Final = "10gbit"
_BARS: Final = 24  # guests in the picture
_WIDTH: Final = 60
_MOST_KINDS: Final = 30  # rows of a table for people


def evacuate(
    config: MigrationConfig, options: SimulationOptions, output: OutputOptions, *, enforce: bool
) -> int:
    """Plan the evacuation of a host, print the plan, and write it to files.

    Args:
        config: Options of all migrations. `memory` and `workload` must not be given (`UsageError`);
            `max_bandwidth` and `strategy` count only if they are.
        options: Guests, guests' speed, and the uplink, of `DEFAULT_UPLINK` where it has no rate.
        output: Where results and progress go.
        enforce: Whether guests over their downtime limit make an exit code of their own.

    Returns:
        The exit code: 5 with `enforce` where a guest is over its limit, else 0.
    """
    from pageferry.common.html import render
    from pageferry.common.terminal.console import ProgressView

    evacuation = _evacuation(config, options)
    with ReportFiles(output) as files:
        plans = []
        with ProgressView(output.wish) as view:
            view.update(Status(phase="planning"))
            for each in evacuation.plans():
                plans.append(each)
                view.update(Status(phase=f"planning · {len(plans)} plans"))
        plan = best_plan(plans)
        sheets = [_plans(evacuation, plans, plan), _kinds(evacuation, plan)]
        notes, picture = _notes(evacuation, plan), _picture(evacuation, plan)
        if output.json_file != "-":
            console = wide_console()
            for sheet in sheets:
                sheet.print(console)
            console.print(picture.to_rich())
            print_notes(console, notes)
        files.write(
            lambda: json.dumps(_document(evacuation, plans, plan), indent=2) + "\n",
            lambda: render(
                [],
                title="pageferry simulate: an evacuation",
                labels=[],
                tables=[sheet.to_html() for sheet in [*sheets, picture]],
                notes=notes,
                simulation=True,
            ),
        )
    if enforce and plan.over:
        print_error(f"{plan.over:,} guests stand still for longer than their --downtime-limit")
        return EXIT_LIMIT_MISSED
    return EXIT_OK


def _evacuation(config: MigrationConfig, options: SimulationOptions) -> Evacuation:
    link = parse_link(options.link)
    if math.isinf(link.rate):
        link = link.model_copy(update={"rate": parse_rate(DEFAULT_UPLINK)})
    given = config.model_fields_set
    if "workload" in given or "memory" in given:
        raise UsageError("--evacuate draws its guests: --fleet FILE says which, not --workload")
    kinds = None if options.fleet is None else read_fleet(options.fleet, config)
    if options.evacuate is not None:
        guests = draw(options.evacuate, config.seed, kinds)
    else:
        guests = everyone(kinds or [])
    if kinds is None:  # those of a file were checked when it was read
        for kind in set(guests):
            kind.config(config)
    return Evacuation(
        guests,
        config,
        link,
        config.max_bandwidth if "max_bandwidth" in given else math.inf,
        config.strategy if "strategy" in given else None,
        options.guest_speed,
    )


def _plans(
    evacuation: Evacuation, plans: Sequence[EvacuationPlan], chosen: EvacuationPlan
) -> Sheet:
    least_s = evacuation.least_s()
    return Sheet(
        title=(
            f"simulated: {len(evacuation.guests):,} guests over"
            f" {format_rate(evacuation.uplink_rate)}, at least {three_digits(least_s)} s"
        ),
        columns=(
            "order",
            "at a time",
            "total s",
            "of the least",
            "mean s",
            "worst downtime ms",
            "over limit",
            "by post-copy",
            "",
        ),
        rows=tuple(
            (
                plan.order,
                str(plan.slots),
                three_digits(plan.total_s),
                factor(plan.total_s / least_s),
                three_digits(plan.mean_s),
                three_digits(plan.worst_downtime_s * 1e3),
                f"{plan.over:,}",
                f"{plan.switched:,}",
                "chosen" if plan is chosen else "",
            )
            for plan in plans
        ),
    )


def _kinds(evacuation: Evacuation, plan: EvacuationPlan) -> Sheet:
    """Make the table of the kinds of guests that send most, and how they are moved."""
    counts = Counter(evacuation.guests)
    choices = dict(zip(evacuation.guests, plan.choices, strict=True))
    kinds = sorted(counts, key=lambda kind: -counts[kind] * choices[kind].bytes)
    shown = kinds[:_MOST_KINDS]
    more = f" (the {len(shown)} largest of {len(kinds)} kinds)" if len(kinds) > len(shown) else ""
    return Sheet(
        title=f"the simulated plan: {plan.order}, {plan.slots} at a time{more}",
        columns=("guest", "memory", "strategy", "guests", "wire", "downtime ms", "limit ms"),
        rows=tuple(
            (
                kind.label,
                format_size(kind.memory),
                choices[kind].strategy,
                f"{counts[kind]:,}",
                human_bytes(counts[kind] * choices[kind].bytes),
                three_digits(choices[kind].downtime_s * 1e3),
                three_digits(kind.config(evacuation.base).downtime_limit * 1e3),
            )
            for kind in shown
        ),
        left=3,
    )


def _picture(evacuation: Evacuation, plan: EvacuationPlan) -> Sheet:
    """Draw when guests are on their way; of many guests, some from every part of the plan."""
    numbers = sorted(range(len(plan.spans)), key=lambda n: plan.spans[n].start_s)
    if len(numbers) > _BARS:
        numbers = [numbers[i * (len(numbers) - 1) // (_BARS - 1)] for i in range(_BARS)]
    rows = []
    for number in numbers:
        span, kind = plan.spans[number], evacuation.guests[number]
        first = int(span.start_s / plan.total_s * (_WIDTH - 1))
        last = int(span.end_s / plan.total_s * (_WIDTH - 1))
        bar = "·" * first + "█" * (last - first + 1) + "·" * (_WIDTH - 1 - last)
        about = f"{kind.label}, {format_size(kind.memory)}"
        rows.append((f"{number + 1}", about, bar, plan.choices[number].strategy))
    whole = f"0 to {three_digits(plan.total_s)} s"
    return Sheet("on their way, simulated", ("guest", "", whole, "strategy"), tuple(rows), left=4)


def _notes(evacuation: Evacuation, plan: EvacuationPlan) -> list[str]:
    notes = [
        "Simulated: guests and uplink are figures, nothing was moved or measured.",
        f"At least: {human_bytes(evacuation.least_bytes())} have to travel, every guest's"
        f" memory once. The plan sends {human_bytes(plan.bytes)}.",
        "The downtime is that of a guest which gets the even share of the uplink that it is"
        " promised, and so are the bytes; when others leave it more, it is sooner through.",
    ]
    if (bound := evacuation.bound(plan)) is not None:
        notes.insert(
            1, f"Each migration, {plan.slots} at a time, is bound by {binding_limit_text(bound)}."
        )
    if plan.over:
        notes.append(f"{plan.over:,} guests would stand still for longer than their limit.")
    if plan.switched:
        notes.append(
            f"{plan.switched:,} guests would go by post-copy in the end: until they are whole they"
            " depend on both hosts."
        )
    return notes


def _document(
    evacuation: Evacuation, plans: Sequence[EvacuationPlan], chosen: EvacuationPlan
) -> dict[str, Any]:
    """Make what `--json` writes; times are milliseconds, as everywhere."""
    return {
        "schema_version": 1,
        "simulated": True,
        "uplink": evacuation.uplink_rate,
        "seed": evacuation.base.seed,
        "least_total_time_ms": evacuation.least_s() * 1e3,
        "bound": None if (bound := evacuation.bound(chosen)) is None else bound.model_dump(),
        "table": [_plan(plan) | {"chosen": plan is chosen} for plan in plans],
        "plan": _plan(chosen) | {"strategies": _strategies(chosen)},
        "guests": [
            _guest(number, evacuation.guests[number], chosen)
            for number in range(len(evacuation.guests))
        ],
    }


def _plan(plan: EvacuationPlan) -> dict[str, Any]:
    return {
        "order": plan.order,
        "concurrency": plan.slots,
        "total_time_ms": plan.total_s * 1e3,
        "mean_time_ms": plan.mean_s * 1e3,
        "worst_downtime_ms": plan.worst_downtime_s * 1e3,
        "over_limit": plan.over,
        "by_post_copy": plan.switched,
        "bytes": round(plan.bytes),
    }


def _strategies(plan: EvacuationPlan) -> dict[str, int]:
    """Count the guests that go by each strategy."""
    out: defaultdict[str, int] = defaultdict(int)
    for choice in plan.choices:
        out[choice.strategy] += 1
    return dict(out)


def _guest(number: int, kind: GuestKind, plan: EvacuationPlan) -> dict[str, Any]:
    span, choice = plan.spans[number], plan.choices[number]
    return {
        "guest": number + 1,
        "name": kind.label,
        "memory": kind.memory,
        "workload": kind.workload,
        "strategy": choice.strategy,
        "start_ms": span.start_s * 1e3,
        "end_ms": span.end_s * 1e3,
        "downtime_ms": choice.downtime_s * 1e3,
        "bytes": round(choice.bytes),
    }
