from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.errors import UsageError
from pageferry.net.schedule import Moment, Step, parse_schedule, schedule_moments
from pageferry.net.shape import Shape, parse_shape


def moments(*texts: str, shape: str = "rate=100mbit") -> list[Moment]:
    return schedule_moments(parse_shape(shape), parse_schedule(texts))


def test_a_change_and_an_outage() -> None:
    first, second, third = moments("at 3s rate=10mbit; at 5s outage=2s")
    assert (first.at_s, second.at_s, third.at_s) == (3, 5, 7)
    assert first.shape == second.shape == third.shape == parse_shape("rate=10mbit")
    assert [each.outage for each in (first, second, third)] == [False, True, False]
    assert [each.words for each in (first, second, third)] == [
        "rate=10mbit",
        "outage=2s",
        "outage over",
    ]


def test_parts_come_in_any_order_and_from_several_options() -> None:
    assert moments("5s delay=2ms", "at 1s delay=1ms;") == moments(
        "at 1s delay=1ms; at 5s delay=2ms"
    )


def test_changes_add_up() -> None:
    first, second = moments("at 1s delay=4ms; at 2s rate-back=10mbit, loss=1%")
    assert first.shape == parse_shape("rate=100mbit,delay=4ms")
    assert second.shape == parse_shape("rate=100mbit,delay=4ms,loss=1%,rate-back=10mbit")


def test_a_change_during_an_outage_waits_for_its_end() -> None:
    during, change, after = moments("at 1s outage=2s; at 2s rate=1mbit")
    assert during.outage
    assert change.outage
    assert not after.outage
    assert after.shape == parse_shape("rate=1mbit")


def test_outages_that_touch_are_one() -> None:
    got = moments("at 1s outage=2s; at 3s outage=1s; at 2s outage=500ms")
    assert [(each.at_s, each.outage) for each in got] == [
        (1, True),
        (2, True),
        (3, True),
        (4, False),
    ]


def test_two_changes_at_one_moment_are_one_moment() -> None:
    (got,) = moments("at 1s rate=1mbit; at 1s delay=3ms")
    assert got.shape == parse_shape("rate=1mbit,delay=3ms")
    assert got.words == "rate=1mbit, delay=3ms"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("at", "expected something like"),
        ("at 3s", "expected something like"),
        ("3s", "expected something like"),
        ("at 3 rate=10mbit", "'3' is not a time"),
        ("at 3s rate=1mbit;" * 500, "expected 400 at the most"),
        ("at 3s rate", "is not NAME=VALUE"),
        ("at 3s outage=2", "'2' is not a time"),
        ("at 3s speed=2", "a link has no 'speed'"),
        ("at 3s jitter=2s", "jitter 2s is above delay 0s"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"^--schedule: ") as caught:
        moments(text)
    assert words in str(caught.value)


STEPS = st.lists(
    st.builds(
        Step,
        at_s=st.integers(0, 20).map(float),
        changes=st.dictionaries(
            st.sampled_from(["rate", "rate-back"]), st.sampled_from(["1mbit", "2mbit"]), max_size=2
        ),
        outage_s=st.integers(0, 5).map(float),
        words=st.just("it"),
    ),
    max_size=8,
)


@given(STEPS)
def test_the_moments_say_what_the_steps_do(steps: list[Step]) -> None:
    """At any time, the latest moment is what going through all steps one by one gives."""
    steps.sort(key=lambda step: step.at_s)
    got = schedule_moments(Shape(), steps)
    assert [each.at_s for each in got] == sorted({each.at_s for each in got})
    for tick in range(60):
        now = tick / 2
        shape = Shape()
        for step in steps:
            if step.at_s <= now:
                shape = shape.changed(step.changes)
        out = any(step.at_s <= now < step.at_s + step.outage_s for step in steps)
        past = [each for each in got if each.at_s <= now]
        assert (past[-1].shape if past else Shape()) == shape
        assert (past[-1].outage if past else False) == out


def test_an_outage_of_no_time_is_refused() -> None:
    with pytest.raises(UsageError, match="'at 3s outage=0': an outage of no time: expected more"):
        parse_schedule(["at 3s outage=0"])
