"""Events survive their packing: to 1 µs and to seven digits, in a few bytes each."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.html.packing import pack_events, packed_json
from pageferry.common.report.schema import EventReport
from tests.support.html_arrays import events_of, unpacked

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)
_FIELDS = st.dictionaries(st.sampled_from(["page", "why", "n"]), _JSON, max_size=3)
_EVENTS = st.lists(
    st.tuples(
        st.floats(-1e6, 1e9), st.sampled_from(["source", "dest"]), st.text(max_size=4), _FIELDS
    ),
    max_size=20,
)


def event(t_ms: float, agent: str = "dest", name: str = "fault", **fields: Any) -> EventReport:
    values = {"t_ms": t_ms, "agent": agent, "event": name}
    return EventReport.model_validate(values | fields)


@given(_EVENTS)
def test_whatever_the_fields_are(made: list[tuple[float, str, str, dict[str, Any]]]) -> None:
    found = events_of(pack_events([event(t, a, n, **f) for t, a, n, f in made]))
    assert [each[1:] for each in found] == [each[1:] for each in made]
    for ours, theirs in zip(found, made, strict=True):
        assert ours[0] == pytest.approx(theirs[0], abs=1e-3)


def test_fractions_keep_their_digits() -> None:
    exact, tiny = [0.125, 20.5, -7.001], [1.23456789e-9, 3.0, 8.8e17]
    events = [event(1.0, us=us, ratio=ratio) for us, ratio in zip(exact, tiny, strict=True)]
    found = events_of(pack_events(events))
    assert [fields["us"] for *_, fields in found] == exact
    assert [fields["ratio"] for *_, fields in found] == pytest.approx(tiny, rel=1e-6)


def test_numbers_that_no_script_holds() -> None:
    values = [2**70, -(2**70), 3, True, math.inf, None]
    found = events_of(pack_events([event(0.0, n=value) for value in values]))
    assert [fields["n"] for *_, fields in found] == [2**70, -(2**70), 3, True, None, None]


def test_an_event_is_a_few_bytes() -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    events = [
        event(
            n * 0.02 + chance.random() / 100, page=chance.randrange(2**18), us=chance.random() * 100
        )
        for n in range(20_000)
    ]
    assert len(pack_events(events)) < 14 * len(events)


def test_what_is_not_finite_becomes_null() -> None:
    assert json.loads(unpacked(packed_json({"a": [math.nan, 1]}))) == {"a": [None, 1]}
