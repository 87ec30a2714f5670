"""The corpora of `tests/fuzz`: each input once, and some that are a little wrong."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import CORPUS, SEEDS
from tests.fuzz.targets import TARGETS, Stream

FULL = bool(os.environ.get("PAGEFERRY_TEST_FULL"))
INPUTS = sorted(path for path in CORPUS.glob("*/*"))


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_input_of_the_corpus(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_those_of_the_present_format(target: str) -> None:
    for name, data in SEEDS[target]().items():
        assert (CORPUS / target / name).read_bytes() == data, "run python -m tests.fuzz.seeds"


WHOLE = {target: list(make().values()) for target, make in SEEDS.items()}
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1e18,
    2**63 - 1,
    2**70,
    1e-320,
    "",
    "x",
    "\ud800",
    "\0",
    "../x",
]
ODD += [[], {}, [[]], [1], {"a": 1}, "9" * 400, "[bold]", "nan", "1MiB", [None], ["1"] * 40]


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
def test_damaged_inputs(target: str, data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(WHOLE[target]))
    at = data.draw(st.integers(0, len(whole)))
    hole = data.draw(st.integers(0, 32))
    TARGETS[target](whole[:at] + data.draw(st.binary(max_size=32)) + whole[at + hole :])


@pytest.mark.parametrize("target", ["report", "record", "manifest"])
@settings(max_examples=2000 if FULL else 150)
@given(data=st.data())
def test_values_of_another_kind(target: str, data: st.DataObject) -> None:
    """JSON that is JSON, with up to three values that are not what belongs there."""
    document = json.loads(data.draw(st.sampled_from(WHOLE[target])))
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(list(_places(document))))
        inside: Any = document
        for step in way:
            inside = inside[step]
        inside[last] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
    TARGETS[target](json.dumps(document).encode())


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value within."""
    steps: Iterable[Any] = ()
    if isinstance(value, dict):
        steps = value
    elif isinstance(value, list):
        steps = range(min(len(value), 3))
    for step in steps:
        yield (*way, step)
        if len(way) < 8:
            yield from _places(value[step], (*way, step))


def test_seeds_of_the_decoder_are_legal() -> None:
    for data in SEEDS["frames"]().values():
        stream = Stream(data[0], 8)
        stream.feed(data[2:])
        assert stream.frames
        assert stream.refused is None
