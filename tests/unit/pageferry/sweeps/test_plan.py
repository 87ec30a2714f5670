"""The plan's file: what it may say, and one line where it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pageferry.common.errors import UsageError
from pageferry.sweeps.plan import parse_plan, read_plan
from tests.support.sweep_tables import cells, plan


def test_everything_in_a_plan_is_parsed() -> None:
    found = plan(
        """
        runner = "migrate"
        output = "there"
        repeats = 2
        max-cells = 7
        [options]
        memory = 16777216
        verify = false
        low = 0.1
        inject = ["connected:kill", "set-up:kill"]
        [grid]
        max-bandwidth = ["100MB/s", inf]
        workload.name = ["uniform", "zipf"]
        workload.rate = ["1MB/s"]
        [[list]]
        strategy = ["pre-copy", "hybrid"]
        cache = [0, "4MiB"]
        """
    )
    assert (found.runner, found.output, found.repeats, found.max_cells) == (
        "migrate",
        "there",
        2,
        7,
    )
    assert found.options["memory"] == "16777216"
    assert found.options["verify"] == "false"
    assert found.options["low"] == "0.1"
    assert found.options["inject"] == ("connected:kill", "set-up:kill")
    assert found.grid == {
        "max-bandwidth": ("100MB/s", "inf"),
        "workload": ("uniform", "zipf"),
        "workload.rate": ("1MB/s",),
    }
    assert found.columns == ({"strategy": ("pre-copy", "hybrid"), "cache": ("0", "4MiB")},)


BAD = {
    "= 1": "plan.toml is not TOML: ",
    "colour = 1": "plan.toml: colour: unknown: expected runner, output, repeats,",
    "repeats = 0": "plan.toml: repeats: 0 is too small: expected a whole number from 1 to 1000",
    "repeats = '3'": "plan.toml: repeats: '3' is not a whole number: expected",
    "runner = 3": "plan.toml: runner: 3 is not text: expected text",
    "options = 1": "plan.toml: options: 1: expected a table of options",
    "options.cache = 2020-01-01": "plan.toml: options.cache: datetime.date.*: expected text, a nu",
    "options.cache = {a = 1}": r"plan.toml: options.cache: \{'a': 1\}: expected text, a number",
    "options.cache = [[1]]": r"plan.toml: options.cache: \[1\]: expected text",
    "grid.cache = 4": "plan.toml: grid.cache: 4: expected a list of values",
    "grid.cache = []": "plan.toml: grid.cache: expected at least one value",
    "grid.cache = [0, '4MiB', 0]": "plan.toml: grid.cache: '0' is given twice",
    "grid = {'workload.rate' = ['1MB/s'], workload.rate = ['2MB/s']}": (
        "plan.toml: grid: workload.rate is given twice"
    ),
    "list = {cache = [0]}": "plan.toml: list: .* is not a list: expected tables",
    "list = [{}]": "plan.toml: list.0: expected at least one option",
    "list = [{cache = [0, 1], low = [0]}]": (
        "plan.toml: list.0: cache has 2, low has 1: expected lists of one length"
    ),
    # What only the options themselves can tell.
    "grid.stratgy = ['hybrid']": "plan.toml: grid.stratgy: unknown option, did you mean strategy?",
    "grid.workload.colour = [1]": "plan.toml: grid.workload.colour: unknown option",
    "options.max_bandwidth = 1": "options.max_bandwidth: unknown option, did you mean max-bandwi",
    "options.memory = 'lots'": "plan.toml: options.memory: 'lots' is not a size",
    "options.memory = true": "plan.toml: options.memory: 'true' is not a size",
    "options.max-bandwidth = 100": "plan.toml: options.max-bandwidth: '100' is not a rate",
    "options.strategy = 'teleport'": "plan.toml: options.strategy: 'teleport' is unknown",
    "options.strategy = ['hybrid']": r"options.strategy: \('hybrid',\): expected one value",
    "options.inject = 'x'": "plan.toml: options.inject: 'x': expected a list",
    "options.inject = ['x']": "plan.toml: options.inject: 'x'",
    "grid.cache = ['5MiB']": "plan.toml: grid.cache: 5MiB does not divide .* expected 4MiB or 8MiB",
    "grid.low = ['60%']": "plan.toml: grid.low: 60% is above --high 50%",
    "grid.workload = ['chess']": "plan.toml: grid.workload: unknown workload 'chess'",
    "options.workload.rate = '1MB/s'": "options.workload.rate: workload idle has no option 'rate'",
    "options.workload = {name = 'zipf', rate = '1,lines=2'}": "options.workload.rate: .* comma",
    "options.workload = 'trace:/nonexistent/x'": "plan.toml: .*/nonexistent/x",
    "options.cache = 0\ngrid.cache = [0]": "plan.toml: cache is given in options and in grid",
    "grid.memory = ['1GiB', '1024MiB']": "plan.toml: memory=1GiB and memory=1024MiB are the same",
    "repeats = 2\ngrid.seed = [1, 2]": "plan.toml: repeats: each has another seed, and seed is an",
    "repeats = 2\noptions.seed = 9223372036854775807": "plan.toml: repeats: there are no 2 seeds",
    "max-cells = 3\ngrid.seed = [1, 2]\ngrid.cache = [0, '4MiB']": (
        "plan.toml: it has 4 cells, and max-cells is 3"
    ),
}


@pytest.mark.parametrize("text", BAD, ids=list(BAD))
def test_one_line_where_it_is_wrong(text: str) -> None:
    with pytest.raises(UsageError, match=BAD[text]) as caught:
        cells(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read: No such file"):
        read_plan(tmp_path / "a.toml")
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        read_plan(tmp_path)
    (tmp_path / "a.toml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(UsageError, match=r"a\.toml is too large: expected at most 1 MiB"):
        read_plan(tmp_path / "a.toml")
    with pytest.raises(UsageError, match="a is not UTF-8: byte 1"):
        parse_plan(b"a\xff", "a")
    with pytest.raises(UsageError, match="a is not TOML"):
        parse_plan(b"a = " + b"[" * 100_000, "a")
