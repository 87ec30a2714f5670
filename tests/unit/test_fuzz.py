"""The corpora of `tests/fuzz`: each input once, and some that are a little wrong."""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.damage import ODD, damaged, places, replace_at
from tests.fuzz.seeds import CORPUS, SEEDS
from tests.fuzz.targets import TARGETS, Stream
from tests.support.tiers import FULL

INPUTS = sorted(path for path in CORPUS.glob("*/*"))


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_input_of_the_corpus(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def content(target: str, data: bytes) -> object:
    """What a seed holds. How the zip around it is written differs from Python 3.11.2 to 3.11.7."""
    if target != "npz":
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_those_of_the_present_format(target: str) -> None:
    for name, data in SEEDS[target]().items():
        kept = (CORPUS / target / name).read_bytes()
        assert content(target, kept) == content(target, data), "run python -m tests.fuzz.seeds"


WHOLE = {target: list(make().values()) for target, make in SEEDS.items()}
FILES = ["report", "record", "manifest", "sweep", "fleet", "npz"]  # that a person hands over
SECONDS = 60.0 if FULL else 0.5


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("target", FILES)
def test_files_that_are_damaged_for_a_while(target: str) -> None:
    """A second or a minute of them: what fails is in the name of what it raises."""
    until = time.monotonic() + SECONDS
    for data in damaged(WHOLE[target], seed=1):
        try:
            TARGETS[target](data)
        except Exception as error:
            raise AssertionError(f"{target} of {data!r}") from error
        if time.monotonic() > until:
            return


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
def test_a_damaged_input_breaks_no_target(target: str, data: st.DataObject) -> None:
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
        way = data.draw(st.sampled_from(list(places(document))))
        replace_at(document, way, data.draw(st.sampled_from(ODD)))
    TARGETS[target](json.dumps(document).encode())


def test_seeds_of_the_decoder_are_legal() -> None:
    for data in SEEDS["frames"]().values():
        stream = Stream(data[0], 8)
        stream.feed(data[2:])
        assert stream.frames
        assert stream.refused is None
