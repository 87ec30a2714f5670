"""Every combination of a plan as a cell, each with a configuration and an identity.

The identity is a hash of all that determines the cell: the runner, every option's value (defaults
written out), and the versions of the report and of the ledger. It does not depend on the order of
keys, on the plan's other cells, or on how a value was written.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from pydantic import ValidationError

from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.config.model import first_fault
from pageferry.common.errors import UsageError
from pageferry.common.report.binding_limit import config_over_link
from pageferry.common.report.schema import Report
from pageferry.common.workload.registry import WORKLOADS, WorkloadError, parse_workload
from pageferry.common.workload.spec import Chosen
from pageferry.net import shape
from pageferry.sweeps.columns import Row, column_of, option_row
from pageferry.sweeps.plan import PARTED, SweepPlan, Value, one_line
from pageferry.sweeps.runners import Runner
from pageferry.sweeps.settings import CellOptions, net_value

SCHEMA: Final = 1  # of a ledger's records
_REPORT_SCHEMA: Final = Report.model_fields["schema_version"].default


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a plan.

    Attributes:
        index: Its place in the plan, from 0.
        key: Its identity.
        label: What tells it from the plan's other cells, for people.
        repeat: From 0; each repeat has another seed.
        point: What it has on each axis, as it was written.
        config: Its options.
        row: Its options as columns of results.
    """

    index: int
    key: str
    label: str
    repeat: int
    point: Mapping[str, str]
    config: CellOptions
    row: Row = field(repr=False)

    @property
    def least_s(self) -> float:
        """Calculated lower bound of its duration, in seconds."""
        return self.config.least_s


@dataclass(frozen=True, slots=True)
class _Axis:
    """Options that change together.

    Attributes:
        where: Their place in the plan, for complaints.
        points: The values of all of them, for each step along the axis.
    """

    where: str
    options: tuple[str, ...]
    points: tuple[tuple[Value, ...], ...]


def axes_of(plan: SweepPlan) -> list[str]:
    """List the options that vary.

    Args:
        plan: Its options need not have been checked.

    Returns:
        Their names in the plan's order: the first changes slowest.
    """
    return [option for axis in _axes(plan) for option in axis.options]


def _axes(plan: SweepPlan) -> list[_Axis]:
    grid = [
        _Axis("grid", (option,), tuple((value,) for value in values))
        for option, values in plan.grid.items()
    ]
    return grid + [
        _Axis(f"list.{number}", tuple(table), tuple(zip(*table.values(), strict=True)))
        for number, table in enumerate(plan.columns)
    ]


def make_cells(plan: SweepPlan, runner: Runner, name: str) -> list[Cell]:
    """Make all cells, in the order in which they are run.

    Repeats change slowest: what disturbs a host for a while should disturb every combination.

    Args:
        plan: What to expand.
        runner: Decides which options there are.
        name: Of the plan's file, for complaints.

    Returns:
        The cells, no two of which are the same.

    Raises:
        UsageError: An option or a value is wrong, there are more cells than `max-cells`, two cells
            are the same, or the seed is an axis though there are repeats.
    """
    axes = _axes(plan)
    places = _places(plan, axes, runner, name)
    count = plan.repeats * math.prod(len(axis.points) for axis in axes)
    if count > plan.max_cells:
        raise UsageError(f"{name}: it has {count:,} cells, and max-cells is {plan.max_cells:,}")
    if plan.repeats > 1 and "seed" in axes_of(plan):
        raise UsageError(f"{name}: repeats: each has another seed, and seed is an axis already")
    points = [
        {
            option: value
            for axis, values in zip(axes, chosen, strict=True)
            for option, value in zip(axis.options, values, strict=True)
        }
        for chosen in itertools.product(*(axis.points for axis in axes))
    ]
    configs = [_configure(plan.options | point, runner, places, name) for point in points]
    cells: dict[str, Cell] = {}
    for repeat, (point, config) in itertools.product(
        range(plan.repeats), zip(points, configs, strict=True)
    ):
        cell = _cell(len(cells), repeat, plan.repeats, point, config, runner, name)
        if cell.key in cells:
            raise UsageError(f"{name}: {cells[cell.key].label} and {cell.label} are the same")
        cells[cell.key] = cell
    return list(cells.values())


def _places(plan: SweepPlan, axes: Sequence[_Axis], runner: Runner, name: str) -> Mapping[str, str]:
    """Find where each option is given: once only, and known. Raises `UsageError`."""
    places: dict[str, str] = {}
    given = [("options", option) for option in plan.options]
    given += [(axis.where, option) for axis in axes for option in axis.options]
    for where, option in given:
        check_known(option, runner, f"{name}: {where}.{one_line(option)}")
        if option in places:
            raise UsageError(f"{name}: {option} is given in {places[option]} and in {where}")
        places[option] = where
    return places


def check_known(option: str, runner: Runner, where: str) -> None:
    """Refuse an unknown option.

    Args:
        option: As a plan names it, a part such as `workload.rate` included.
        runner: Decides which options there are.
        where: What the complaint begins with.

    Raises:
        UsageError: There is no such option; the complaint suggests a similar one.
    """
    try:
        column_of(option, runner.options)
    except KeyError:
        known = [field.replace("_", "-") for field in runner.options.model_fields]
        known += sorted(f"workload.{key}" for key in WORKLOADS.options)
        known += [f"net.{key}" for key in shape.KEYS]
        if option == f"net.{shape.RTT}":
            raise UsageError(
                f"{where}: expected net.delay, which is half of a round trip"
            ) from None
        hint = did_you_mean(option, known) or f"expected an option of pageferry {runner.name}"
        raise UsageError(f"{where}: unknown option, {hint}") from None


def _configure(
    values: Mapping[str, Value], runner: Runner, places: Mapping[str, str], name: str
) -> CellOptions:
    """Make a configuration of values. Raises `UsageError` that says where the wrong one is."""
    fields: dict[str, Any] = {}
    parts: dict[str, dict[str, str]] = {head: {} for head in PARTED}
    for option, value in values.items():
        where = f"{name}: {places[option]}.{option}"
        head, dot, key = option.partition(".")
        several = not dot and is_several(runner.options, option)
        if isinstance(value, tuple) != several:
            expected = "a list" if several else "one value"
            raise UsageError(f"{where}: {one_line(repr(value))}: expected {expected}")
        if dot:
            parts[head][key] = _part(option, str(value), where)
        else:
            fields[head.replace("-", "_")] = value
    if parts["workload"]:
        workload = str(fields.get("workload", "idle"))
        fields["workload"] = with_parameters(workload, parts["workload"])
    if parts["net"]:
        fields["net"] = with_parts(str(fields.get("net", "")), parts["net"])
    _check_workload(str(fields.get("workload", "idle")), places, name)
    try:
        config = runner.options.model_validate(fields)
        return config_over_link(config, config.net_values().get("rate") or math.inf)
    except ValidationError as error:
        raise UsageError(f"{name}: {_explain(error, places)}") from None


def _check_workload(text: str, places: Mapping[str, str], name: str) -> None:
    """Check a workload. Raises `UsageError` that says where the wrong part is."""
    try:
        _workload(text)
    except WorkloadError as error:
        option = f"workload.{error.key}"
        option = option if option in places else "workload"
        where = f"{places[option]}.{option}: " if option in places else ""
        raise UsageError(f"{name}: {where}{one_line(str(error))}") from None


def is_several(model: type[CellOptions], option: str) -> bool:
    """Tell whether an option may be given several times.

    Args:
        model: The options of a runner's cells.
        option: One of its options, and no part of one such as `workload.rate`.

    Returns:
        True if its value is a list.
    """
    annotation = model.model_fields[option.replace("-", "_")].annotation
    return typing.get_origin(annotation) is tuple


def _part(option: str, value: str, where: str) -> str:
    if "," in value:
        raise UsageError(f"{where}: {one_line(repr(value))}: expected a value without a comma")
    head, _, key = option.partition(".")
    if head == "net":
        try:
            net_value(key, value)
        except ValueError as error:
            raise UsageError(f"{where}: {one_line(str(error))}") from None
    return value


def with_parameters(workload: str, parameters: Mapping[str, str]) -> str:
    """Set parameters of a workload: `rate` of `uniform:rate=1MB/s` is replaced, or else added.

    Args:
        workload: As `--workload` takes it.
        parameters: Texts by parameter.

    Returns:
        The changed text, unchecked.
    """
    name, _, rest = workload.partition(":")
    return f"{name}:{with_parts(rest, parameters)}"


def with_parts(text: str, parts: Mapping[str, str]) -> str:
    """Set parts of `rate=1MB/s,delay=1ms`: each is replaced, or else added.

    Args:
        text: KEY=VALUE between commas; it may be empty.
        parts: Texts by key.

    Returns:
        The changed text, unchecked.
    """
    items = [item for item in text.split(",") if item]
    kept = [item for item in items if item.partition("=")[0].strip() not in parts]
    return ",".join([*kept, *(f"{key}={value}" for key, value in parts.items())])


@lru_cache(maxsize=1024)
def _workload(text: str) -> Chosen:
    return parse_workload(text)


def _explain(error: ValidationError, places: Mapping[str, str]) -> str:
    first, message = first_fault(error)
    if not first["loc"]:
        return _placed(message, places)
    option = str(first["loc"][0]).replace("_", "-")
    part, _, rest = message.partition(" ")
    if f"{option}.{part}" in places:
        option, message = f"{option}.{part}", rest
    return f"{places.get(option, 'options')}.{option}: {one_line(message)}"


def _placed(message: str, places: Mapping[str, str]) -> str:
    """Say where the option is that a complaint about several options begins with."""
    head, _, rest = message.partition(" ")
    head = head.removeprefix("--").removesuffix(":")
    option = head if head in places else head.partition(".")[0]
    if option not in places:
        option = next((each for each in places if each.startswith(f"{option}.")), "")
    if not option:
        return one_line(message)
    words = rest if head == option else message
    return f"{places[option]}.{option}: {one_line(words)}"


def _cell(
    index: int,
    repeat: int,
    repeats: int,
    point: Mapping[str, Value],
    config: CellOptions,
    runner: Runner,
    name: str,
) -> Cell:
    if repeat:
        seed = config.seed + repeat
        if seed >= 2**63:
            raise UsageError(f"{name}: repeats: there are no {repeats} seeds from {config.seed} on")
        config = config.model_copy(update={"seed": seed})
    words = {key: text if isinstance(text, str) else " ".join(text) for key, text in point.items()}
    parts = [f"{option}={text}" for option, text in words.items()]
    label = ", ".join(parts) or f"strategy={config.strategy}"
    if repeats > 1:
        label += f", seed={config.seed}"
    try:
        key = identity(config, runner.name)
        return Cell(index, key, label, repeat, words, config, option_row(config))
    except UsageError as error:  # a file that the workload replays
        raise UsageError(f"{name}: {one_line(str(error))}") from None


def identity(config: CellOptions, runner: str) -> str:
    """Compute the identity of a cell.

    Args:
        config: The cell's options.
        runner: The runner's name.

    Returns:
        20 hexadecimal digits of a SHA-256.

    Raises:
        UsageError: What the workload replays can't be read.
    """
    options = config.known_by()
    pinned = _workload(_workload(config.workload).pinned())
    options["workload"] = [pinned.name, {key: repr(v) for key, v in pinned.options.items()}]
    whole = {
        "schema": [SCHEMA, _REPORT_SCHEMA],
        "runner": runner,
        "options": options,
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:20]
