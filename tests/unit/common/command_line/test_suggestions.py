"""Names that were nearly right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.command_line.suggestions import did_you_mean, nearest

STRATEGIES = ("three-path", "pre-copy", "post-copy", "hybrid", "stop-and-copy", "lazy-copy")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("precopy", "pre-copy"),
        ("Pre-Copy", "pre-copy"),
        ("pre_copy", "pre-copy"),
        ("postcpy", "post-copy"),
        ("threepath", "three-path"),
        ("tree-path", "three-path"),
        ("hybird", "hybrid"),
        ("stop", "stop-and-copy"),
        ("lazy", "lazy-copy"),
    ],
)
def test_a_near_miss_is_told(word: str, meant: str) -> None:
    assert did_you_mean(word, STRATEGIES) == f"did you mean {meant}?"


@pytest.mark.parametrize("word", ["", "-", "xyzzy", "warm", "p", "copy" * 1000])
def test_nothing_is_said_where_nothing_is_near(word: str) -> None:
    assert did_you_mean(word, STRATEGIES) == ""


def test_a_beginning_that_two_names_have_in_common_decides_nothing() -> None:
    assert nearest("cac", ["cache-line-size", "cache-ways-number"]) is None


@given(st.text(), st.lists(st.text(min_size=1), max_size=8))
def test_the_answer_is_one_of_the_known(word: str, known: list[str]) -> None:
    assert nearest(word, known) in {None, *known}
