"""The corpora of `tests/fuzz`: each input once, and some that are a little wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.seeds import CORPUS, SEEDS
from tests.fuzz.targets import TARGETS, Stream

INPUTS = sorted(path for path in CORPUS.glob("*/*"))


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_input_of_the_corpus(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_those_of_the_present_format(target: str) -> None:
    for name, data in SEEDS[target]().items():
        assert (CORPUS / target / name).read_bytes() == data, "run python -m tests.fuzz.seeds"


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
def test_damaged_inputs(target: str, data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(list(SEEDS[target]().values())))
    at = data.draw(st.integers(0, len(whole)))
    hole = data.draw(st.integers(0, 32))
    TARGETS[target](whole[:at] + data.draw(st.binary(max_size=32)) + whole[at + hole :])


def test_seeds_of_the_decoder_are_legal() -> None:
    for data in SEEDS["frames"]().values():
        stream = Stream(data[0], 8)
        stream.feed(data[2:])
        assert stream.frames
        assert stream.refused is None
