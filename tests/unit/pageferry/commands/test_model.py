"""The cost model gives what the paper printed, and scales as its formula says."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pageferry.cli import make_app
from pageferry.commands.model import ModelOptions, convert, cost, whole_ms
from pageferry.common.command_line.run import run_app
from pageferry.paper import published


def test_the_model_has_the_papers_units() -> None:
    result = convert(ModelOptions())
    assert result["without_cache"]["sum"] == "5 + 5 + 5*9 + 5"
    assert result["without_cache"]["units"] == 60
    assert result["with_cache"]["sum"] == "5 + 5 + 1*9 + 5"
    assert result["with_cache"]["units"] == 24
    assert result["ratio"] == published.CLAIMED_RATIO == 0.4


def test_the_model_has_the_papers_times() -> None:
    result = convert(ModelOptions())
    without, cached = result["without_cache"], result["with_cache"]
    assert (without["downtime_ms"], without["total_ms"]) == (1384, 49_973)
    assert (cached["downtime_ms"], cached["total_ms"]) == (554, 19_989)
    assert cached["downtime_exact_ms"] == 553.6
    assert cached["total_exact_ms"] == 19_989.2


def test_table_two_is_the_models() -> None:
    cached = convert(ModelOptions())["with_cache"]
    assert published.IO.printed.downtime_ms == cached["downtime_ms"]
    assert published.IO.printed.total_ms == cached["total_ms"]


def test_the_dropped_term_would_give_another_result() -> None:
    # What the notes say of the paper's line without its last +5.
    assert whole_ms(Fraction(1384) * 24 / 55) == 604


@pytest.mark.parametrize(
    ("time_ms", "expected"),
    [(Fraction(5, 2), 3), (Fraction(7, 2), 4), (Fraction(249, 100), 2), (Fraction(0), 0)],
)
def test_halves_are_rounded_up(time_ms: Fraction, expected: int) -> None:
    assert whole_ms(time_ms) == expected


@given(
    rounds=st.integers(0, 1000),
    memory=st.floats(0.001, 1000),
    cache=st.floats(0, 1000),
)
def test_units_are_three_times_memory_and_the_rounds(
    rounds: int, memory: float, cache: float
) -> None:
    one = cost(cache, rounds=rounds, memory_cost=memory)
    assert float(one.units) == pytest.approx(3 * memory + rounds * cache)


def test_a_cache_as_slow_as_memory_gains_nothing() -> None:
    result = convert(ModelOptions(cache_cost=5.0))
    assert result["ratio"] == 1
    assert result["with_cache"] == result["without_cache"]


def test_without_rounds_there_is_nothing_to_gain() -> None:
    assert convert(ModelOptions(rounds=0))["ratio"] == 1


@pytest.mark.parametrize("field", ["memory_cost", "cache_cost", "rounds", "downtime", "total"])
def test_nothing_is_negative(field: str) -> None:
    with pytest.raises(ValidationError):
        ModelOptions.model_validate({field: -1})


def pageferry(*arguments: str) -> int:
    return run_app(make_app(), ["model", *arguments])


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert pageferry() == 0
    out = capsys.readouterr().out
    for text in ("5 + 5 + 5*9 + 5 = 60", "5 + 5 + 1*9 + 5 = 24", "554 ms", "19,989 ms"):
        assert text in out
    assert "the last +5 is" in out
    assert "15 MB/s" in out


def test_any_baseline_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.json"
    options = ("--downtime", "2s", "--total", "1m", "--rounds", "4", "--cache-cost", "2.5")
    assert pageferry(*options, "--json", str(file)) == 0
    assert "5 + 5 + 2.5*4 + 5 = 25" in capsys.readouterr().out
    result = json.loads(file.read_text())
    assert result["schema_version"] == 1
    assert result["without_cache"]["units"] == 35
    assert result["with_cache"]["downtime_ms"] == 1429  # 2000 * 25/35 = 1428.57
    assert result["with_cache"]["total_ms"] == 42_857


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--downtime", "2"), "--downtime"),
        (("--rounds", "-1"), "--rounds"),
        (("--memory-cost", "0"), "--memory-cost"),
    ],
)
def test_bad_usage_is_one_line(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pageferry(*arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("pageferry: ")
    assert named in err
