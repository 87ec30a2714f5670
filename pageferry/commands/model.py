"""`pageferry model`: the paper's cost model, and times converted from a baseline.

A path 2 migration is the sum of four terms: the first pre-copy, the changed pages that are sent
while the cache holds its write-backs, the rounds, and what is sent during the stop. Sending memory
costs 5 units, sending what the cache gave back costs 1, as the cache is taken to be five times as
fast:

    without the cache   5 + 5 + 5*9 + 5 = 60
    with the cache      5 + 5 + 1*9 + 5 = 24

Times are taken to be proportional to units, so a time measured without the cache becomes 24/60 of
it. All arithmetic is exact; a result is rounded to whole milliseconds, as in the paper.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Final

from cyclopts import Parameter
from pydantic import Field

from pageferry.common.command_line.run import JsonOptions
from pageferry.common.config.fields import Duration
from pageferry.common.errors import EXIT_OK
from pageferry.paper import published
from pageferry.runs.tables import print_notes, wide_console

_HALF: Final = Fraction(1, 2)


class ModelOptions(JsonOptions):
    """The model's parameters and the baseline; the defaults are the paper's."""

    downtime: Annotated[
        Duration, Field(ge=0, le=86400, description="downtime TIME without the cache")
    ] = 1.384
    total: Annotated[
        Duration, Field(ge=0, le=86400 * 30, description="total TIME without the cache")
    ] = 49.973
    rounds: Annotated[int, Field(ge=0, le=1000, description="rounds of path 2")] = (
        published.FIXED_ROUNDS
    )
    memory_cost: Annotated[
        float, Field(gt=0, le=1e6, description="units for sending memory once")
    ] = published.MEMORY_COST
    cache_cost: Annotated[
        float, Field(ge=0, le=1e6, description="units for sending cache contents once")
    ] = published.CACHE_COST


@dataclass(frozen=True, slots=True)
class ModelCost:
    """The cost of one migration.

    Attributes:
        units: The cost in units.
        sum: The terms as the paper writes them, `5 + 5 + 5*9 + 5`.
    """

    units: Fraction
    sum: str


def cost(round_cost: float, *, rounds: int, memory_cost: float) -> ModelCost:
    """Compute what one migration costs.

    Args:
        round_cost: Units of each round.
        rounds: How many rounds there are.
        memory_cost: Units of each of the three other terms.

    Returns:
        The cost, exact.
    """
    memory, each = _exact(memory_cost), _exact(round_cost)
    text = f"{_short(memory)} + {_short(memory)} + {_short(each)}*{rounds} + {_short(memory)}"
    return ModelCost(3 * memory + each * rounds, text)


def whole_ms(time_ms: Fraction) -> int:
    """Round to whole milliseconds, halves up.

    Args:
        time_ms: The time in milliseconds.

    Returns:
        The nearest whole number of milliseconds.
    """
    return (time_ms + _HALF).__floor__()


def convert(options: ModelOptions) -> dict[str, Any]:
    """Compute the model's result, as `--json` writes it.

    Args:
        options: The parameters, and the times without the cache.

    Returns:
        A JSON object. `downtime_ms` and `total_ms` are whole milliseconds as in the paper,
        `*_exact_ms` are not rounded; `ratio` is with / without the cache.
    """
    without = cost(options.memory_cost, rounds=options.rounds, memory_cost=options.memory_cost)
    cached = cost(options.cache_cost, rounds=options.rounds, memory_cost=options.memory_cost)
    ratio = cached.units / without.units
    return {
        "schema_version": 1,
        "rounds": options.rounds,
        "memory_cost": options.memory_cost,
        "cache_cost": options.cache_cost,
        "ratio": float(ratio),
        "without_cache": _side(without, options, Fraction(1)),
        "with_cache": _side(cached, options, ratio),
        "notes": list(published.NOTES),
    }


def _side(one: ModelCost, options: ModelOptions, ratio: Fraction) -> dict[str, Any]:
    downtime_ms = _exact(options.downtime) * 1000 * ratio
    total_ms = _exact(options.total) * 1000 * ratio
    return {
        "sum": one.sum,
        "units": float(one.units),
        "downtime_ms": whole_ms(downtime_ms),
        "downtime_exact_ms": float(downtime_ms),
        "total_ms": whole_ms(total_ms),
        "total_exact_ms": float(total_ms),
    }


def _exact(number: float) -> Fraction:
    """Return what the user wrote: the shortest decimal that reads back as this float."""
    return Fraction(repr(float(number)))


def _short(number: Fraction) -> str:
    return f"{float(number):g}"


def model(*, options: Annotated[ModelOptions | None, Parameter(name="*")] = None) -> int:
    """Compute the paper's cost model: units, and times converted from a baseline without the cache.

    The defaults are the paper's own figures: 1,384 ms of downtime become 554 ms, 49,973 ms in
    all become 19,989 ms. `pageferry reproduce` measures what this only computes.

    Args:
        options: The model's parameters, and where the result goes; None is all defaults.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: The file cannot be written.
    """
    options = options or ModelOptions()
    with options.opened() as file:
        result = convert(options)
        if options.json_file != "-":
            _print(result)
        if file is not None:
            file.write(json.dumps(result, indent=2) + "\n")
    return EXIT_OK


def _print(result: dict[str, Any]) -> None:
    from rich.table import Table

    console = wide_console()
    table = Table(title="The paper's cost model", title_justify="left", pad_edge=False)
    table.add_column("", style="bold")
    for heading in ("units", "downtime", "total time", "ratio"):
        table.add_column(heading, justify="right")
    for name, key in (("without the cache", "without_cache"), ("with the cache", "with_cache")):
        side = result[key]
        table.add_row(
            name,
            f"{side['sum']} = {side['units']:g}",
            f"{side['downtime_ms']:,} ms",
            f"{side['total_ms']:,} ms",
            f"{result['ratio'] if key == 'with_cache' else 1.0:.3g}",
        )
    console.print(table)
    print_notes(console, result["notes"])
