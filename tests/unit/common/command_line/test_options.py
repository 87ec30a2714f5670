"""Complaints about what people have written: one form, with ranges and units."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from pageferry.common.command_line.options import Options
from pageferry.common.config.fields import Duration, Percentage, Rate, Share, Size
from pageferry.common.config.model import explain


class Asked(Options):
    size: Annotated[Size, Field(ge=4096, le=2**44)] = 4096
    rate: Annotated[Rate, Field(ge=1000)] = 1000.0
    most_rate: Annotated[Rate, Field(ge=1000, le=1e9)] = 1000.0
    time: Annotated[Duration, Field(ge=0, le=60)] = 0.0
    limit: Annotated[Duration, Field(gt=0, le=3600)] | None = None
    share: Annotated[Share, Field(gt=0, lt=1)] = 0.5
    loss: Annotated[Percentage, Field(ge=0, lt=1)] = 0.0
    count: Annotated[int, Field(ge=1, le=64)] = 1
    speed: Annotated[float, Field(ge=1)] = 1.0
    kind: Literal["pre-copy", "post-copy"] = "pre-copy"
    on: bool = False
    name: Annotated[str, Field(max_length=8)] = ""


CASES: list[tuple[str, Any, str]] = [
    ("size", "64", "--size: '64' is 64B, too small: expected a size from 4KiB to 16TiB"),
    ("size", "32TiB", "'32TiB' is too large: expected a size from 4KiB to 16TiB"),
    ("size", "many", "'many' is not a size: expected a size from 4KiB to 16TiB, as in 512MiB"),
    ("size", 1, "1B is too small"),
    ("size", [], "[] is not a size"),
    ("rate", "1kbit", "'1kbit' is 125B/s, too slow: expected a rate of at least 1kB/s"),
    ("rate", "0", "'0' is zero, which is no rate: expected a rate of at least 1kB/s"),
    ("rate", "0", "or unlimited"),
    ("rate", "10gbps", "expected 10GB/s or 10gbit"),
    ("most_rate", "unlimited", "--most-rate: 'unlimited' is too fast: expected a rate from 1kB/s"),
    ("time", "10m", "'10m' is 10min, too long: expected a time from 0s to 1min, as in 300ms"),
    ("time", "5", "'5' is not a time: expected a time from 0s to 1min"),
    ("limit", "0s", "'0s' is too short: expected a time above 0s and at most 1h"),
    ("share", "100%", "'100%' is too large: expected a share above 0% and below 100%"),
    ("share", "2", "'2' is not a share: expected 0 to 100%, and 2% if that is meant"),
    ("loss", "0.1", "'0.1' is read in two ways: as 0.1% by tc, by others as 10%: expected 0.1%"),
    ("count", "65", "'65' is too large: expected a whole number from 1 to 64"),
    ("count", "1.5", "'1.5' is not a whole number: expected a whole number from 1 to 64"),
    ("count", "1_0", "'1_0' is not a whole number: expected a whole number from 1 to 64"),
    ("speed", "1_0.5e1", "'1_0.5e1' is not a number: expected a number"),
    ("count", None, "None is not a whole number"),
    ("speed", "nan", "expected a number of at least 1"),
    ("kind", "precopy", "'precopy' is unknown: expected pre-copy or post-copy; did you mean pre-"),
    ("on", "maybe", "'maybe' is neither true nor false: expected true or false"),
    ("name", "x" * 600, "is too long: expected at most 8 characters"),
    ("name", 3, "3 is not text"),
    ("colour", "red", "--colour: unknown: expected size, rate"),
    ("siez", "1", "--siez: unknown: expected size, rate, most-rate"),
    ("siez", "1", "; did you mean size?"),
]


@pytest.mark.parametrize(("name", "value", "words"), CASES)
def test_what_where_and_what_was_expected(name: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Asked.model_validate({name: value})
    text = explain(caught.value)
    assert text.startswith(f"--{name.replace('_', '-')}: ")
    assert words in text
    assert "Input should" not in text
    assert len(text) < 400


@given(
    st.sampled_from(list(Asked.model_fields)),
    st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.text())),
)
def test_no_value_is_answered_in_a_validators_words(name: str, value: Any) -> None:
    try:
        Asked.model_validate({name: value})
    except ValidationError as error:
        text = explain(error)
        assert not any(words in text for words in ("Input should", "valid ", "Value error"))


def test_a_model_within_another_one_keeps_its_words() -> None:
    class Outer(Options):
        inner: Asked = Asked()

    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"inner": {"count": 0}})
    assert "0 is too small: expected a whole number from 1 to 64" in explain(caught.value)
