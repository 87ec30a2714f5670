"""Expansion: every combination once, an identity that depends on the configuration alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.errors import UsageError
from pageferry.sweeps.cell_filter import parse_filter
from pageferry.sweeps.cells import Cell, axes_of, identity, make_cells, with_parameters
from pageferry.sweeps.plan import SweepPlan
from pageferry.sweeps.settings import MigrateCell
from tests.support.sweep_tables import MIGRATE, PLAN, cells, plan

# Options of which any value goes with any of the others'.
POOL: Mapping[str, tuple[str, ...]] = {
    "strategy": ("pre-copy", "hybrid", "three-path", "stop-and-copy"),
    "memory": ("8MiB", "16MiB", "32MiB"),
    "cache": ("0", "256KiB", "1MiB"),
    "max-bandwidth": ("10MB/s", "800mbit", "unlimited"),
    "max-rounds": ("3", "4", "5"),
    "checksum": ("true", "false"),
    "workload": ("uniform", "zipf:skew=1.1"),
    "workload.rate": ("1MB/s", "max"),
    "workload.lines": ("1", "64"),
}


@st.composite
def plans(draw: st.DrawFn) -> SweepPlan:
    """Each option fixed, in the grid, in a list, or left out."""
    fixed: dict[str, str] = {}
    grid: dict[str, list[str]] = {}
    columns: list[dict[str, list[str]]] = []
    for option in draw(st.permutations(list(POOL))):
        values = draw(st.lists(st.sampled_from(POOL[option]), min_size=1, unique=True))
        place = draw(st.sampled_from(["fixed", "grid", "list", "default"]))
        if place == "default" and option.partition(".")[0] == "workload":
            place = "fixed"
        if place == "fixed":
            fixed[option] = values[0]
        elif place == "grid":
            grid[option] = values
        elif place == "list":
            beside = draw(st.booleans())
            same = [table for table in columns if len(next(iter(table.values()))) == len(values)]
            if same and beside:
                same[0][option] = values
            else:
                columns.append({option: values})
    document = {"options": fixed, "grid": grid, "list": columns, "max-cells": 100_000}
    return SweepPlan.model_validate(document | {"repeats": draw(st.integers(1, 3))})


def points(found: SweepPlan) -> list[dict[str, str]]:
    """Every combination, by the plainest of ways."""
    out: list[dict[str, str]] = [dict(found.options)]
    for option, values in found.grid.items():
        out = [point | {option: value} for point in out for value in values]
    for table in found.columns:
        rows = range(len(next(iter(table.values()))))
        out = [p | {name: table[name][row] for name in table} for p in out for row in rows]
    return out


def small(found: SweepPlan) -> bool:
    return len(points(found)) <= 40


@given(found=plans().filter(small))
def test_every_combination_once(found: SweepPlan) -> None:
    made = make_cells(found, MIGRATE, "p")
    expected = points(found)
    assert len({cell.key for cell in made}) == len(made) == len(expected) * found.repeats
    for repeat in range(found.repeats):
        part = made[repeat * len(expected) : (repeat + 1) * len(expected)]
        for cell, point in zip(part, expected, strict=True):
            assert cell.repeat == repeat
            assert cell.config.seed == 1 + repeat
            assert set(cell.point) == set(axes_of(found))
            assert all(point[option] == text for option, text in cell.point.items())
            check(cell, point)


def check(cell: Cell, point: Mapping[str, str]) -> None:
    """The configuration is what `pageferry migrate` would make of the same flags."""
    values = {k.replace("-", "_"): v for k, v in point.items() if not k.startswith("workload.")}
    parameters = [f"{k[9:]}={v}" for k, v in sorted(point.items()) if k.startswith("workload.")]
    name = values.pop("workload")
    given = ",".join([*name.partition(":")[2].split(","), *parameters]).strip(",")
    plain = MIGRATE.options.model_validate(values)
    ours = cell.config.model_copy(update={"workload": "idle", "seed": 1})
    assert ours == plain
    head, _, rest = cell.config.workload.partition(":")
    assert head == name.partition(":")[0]
    assert sorted(rest.split(",")) == sorted(given.split(","))


@given(found=plans().filter(small), data=st.data())
def test_the_order_of_keys_and_other_cells_do_not_matter(
    found: SweepPlan, data: st.DataObject
) -> None:
    options = data.draw(st.permutations(list(found.options.items())))
    grid = data.draw(st.permutations(list(found.grid.items())))
    document = {
        "options": {k: list(v) if isinstance(v, tuple) else v for k, v in options},
        "grid": {name: list(reversed(values)) for name, values in grid},
        "list": [{k: list(v) for k, v in table.items()} for table in found.columns],
        "repeats": found.repeats,
        "max-cells": 100_000,
    }
    shuffled = make_cells(SweepPlan.model_validate(document), MIGRATE, "p")
    assert by_options(shuffled) == by_options(make_cells(found, MIGRATE, "p"))


def by_options(made: list[Cell]) -> dict[tuple[object, ...], str]:
    out: dict[tuple[object, ...], str] = {}
    for cell in made:
        row = {k: v for k, v in cell.row.items() if k != "workload"}
        out[tuple(sorted((k, str(v)) for k, v in row.items()))] = cell.key
    assert len(out) == len(made)
    return out


def test_an_identity_is_of_the_whole_configuration() -> None:
    base = identity(MigrateCell(), "migrate")
    assert base == identity(MigrateCell.model_validate({"memory": "1024MiB"}), "migrate")
    others = [
        MigrateCell.model_validate({name: value})
        for name, value in {"seed": 2, "verify": False, "max_bandwidth": "unlimited"}.items()
    ]
    found = {base, identity(MigrateCell(), "simulate")}
    assert len(found | {identity(config, "migrate") for config in others}) == 5


def test_parameters_take_their_place() -> None:
    assert with_parameters("zipf", {"rate": "1MB/s"}) == "zipf:rate=1MB/s"
    assert with_parameters("zipf:rate=2MB/s,skew=1", {"rate": "1MB/s"}) == "zipf:skew=1,rate=1MB/s"
    assert with_parameters("trace:a.npz", {"rate": "1MB/s"}) == "trace:a.npz,rate=1MB/s"


def test_the_order_and_the_labels() -> None:
    made = cells(PLAN + '\n[[list]]\ncache = ["0", "1MiB"]\ngranularity = ["page", "line"]\n')
    assert len(made) == 16
    assert [cell.index for cell in made] == list(range(16))
    assert made[1].label == (
        "strategy=pre-copy, max-bandwidth=40MB/s, workload.rate=4MB/s, cache=1MiB, granularity=line"
    )
    assert cells("options.strategy = 'hybrid'")[0].label == "strategy=hybrid"
    assert cells("repeats = 2\noptions.seed = 5")[1].label == "strategy=three-path, seed=6"


def test_a_list_may_have_a_value_twice_beside_others() -> None:
    made = cells("[[list]]\nstrategy = ['hybrid', 'hybrid', 'pre-copy']\nseed = [1, 2, 2]")
    assert [(cell.config.strategy, cell.config.seed) for cell in made] == [
        ("hybrid", 1),
        ("hybrid", 2),
        ("pre-copy", 2),
    ]
    with pytest.raises(UsageError, match="seed=1 and strategy=hybrid, seed=1 are the same"):
        cells("[[list]]\nstrategy = ['hybrid', 'hybrid']\nseed = [1, 1]")


def test_the_least_time_counts_what_was_asked() -> None:
    text = "options.memory = '1GiB'\noptions.warmup = '5s'\ngrid.max-bandwidth = ['100MB/s', 'inf']"
    with pytest.raises(UsageError, match="unlimited"):
        cells(text)
    slow, fast = cells(text.replace("'inf'", "'unlimited'"))
    assert slow.least_s > 5 + 10.7
    assert 5 + 1 < fast.least_s < slow.least_s
    bounded = cells(text.replace("'inf'", "'unlimited'") + "\noptions.timeout = '2s'")[0]
    assert bounded.least_s < 11


@given(found=plans().filter(small), data=st.data())
def test_a_filter_takes_those_that_have_the_value(found: SweepPlan, data: st.DataObject) -> None:
    made = make_cells(found, MIGRATE, "p")
    axes = axes_of(found)
    if not axes:
        return
    wanted = data.draw(st.lists(st.sampled_from(axes), min_size=1, unique=True))
    accepted = {
        axis: data.draw(
            st.lists(
                st.sampled_from(sorted({c.point[axis] for c in made})), min_size=1, unique=True
            )
        )
        for axis in wanted
        if axis != "workload"  # its text has the parameters in it
    }
    if not accepted:
        return
    text = ",".join(f"{axis}={'|'.join(values)}" for axis, values in accepted.items())
    choice = parse_filter(text, MIGRATE)
    for cell in made:
        assert choice(cell.row) == all(cell.point[a] in accepted[a] for a in accepted)


def test_a_filter_reads_values_as_flags_do() -> None:
    made = cells(PLAN)

    def count(text: str) -> int:
        return sum(map(parse_filter(text, MIGRATE), (cell.row for cell in made)))

    assert count("max-bandwidth=320mbit") == 4
    assert count("strategy=pre-copy, workload.rate=80MB/s") == 2
    assert count("workload=uniform:working-set=50%,rate=4MB/s") == 4
    assert count("workload=uniform:working-set=50%,rate=4MB/s,strategy=pre-copy") == 2
    assert count("workload.name=uniform,workload.working-set=0.5") == 8
    assert count("verify=off") == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("strategy", "--filter: 'strategy': expected OPTION=VALUE"),
        ("", "--filter: '': expected OPTION=VALUE"),
        ("stratgy=hybrid", "--filter: stratgy: unknown option, did you mean strategy"),
        ("strategy=teleport", "--filter: strategy: 'teleport' is unknown: expected three-path"),
        ("cache=lots", "--filter: cache: 'lots' is not a size: .*"),
        ("workload.rate=fast", "--filter: workload.rate: 'fast' is not a rate"),
        ("seed=1,seed=2", r"--filter: seed is given twice: expected seed=A\|B"),
    ],
)
def test_a_filter_that_is_wrong(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_filter(text, MIGRATE)


def test_a_plan_without_axes_is_one_cell() -> None:
    assert len(cells("")) == 1
    assert axes_of(plan("")) == []
    assert list(itertools.chain(cells("")[0].point)) == []
