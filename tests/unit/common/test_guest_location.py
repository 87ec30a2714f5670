"""The one table of who vanished, and when: every sentence says where the guest is."""

from __future__ import annotations

import re

import pytest

from pageferry.common import errors
from pageferry.common.guest_location import (
    TABLE,
    When,
    Who,
    location_error,
    location_sentence,
    when_of,
)
from pageferry.common.handover import MAY_RUN, Role, State

EVERY = list(TABLE)
# What a sentence must say: where the guest is, or that there is none, or that nobody knows.
SAYS = re.compile(
    r"goes on at the source|no guest had (been|come)|nobody knows|guest ended with it"
    r"|that ran here ended with it|the guest is lost|and is lost|has moved to th"
)


def test_every_combination_has_a_row() -> None:
    assert set(EVERY) == {(who, when) for who in Who for when in When}


@pytest.mark.parametrize(("who", "when"), EVERY)
def test_each_sentence_says_where_the_guest_is(who: Who, when: When) -> None:
    said = location_sentence("it happened", who, when)
    assert said.startswith("it happened: ")
    assert SAYS.search(said), said
    assert "\n" not in said
    assert not said.endswith(".")


@pytest.mark.parametrize(("who", "when"), EVERY)
def test_each_code_is_what_the_words_mean(who: Who, when: When) -> None:
    row = TABLE[who, when]
    expected = {
        "failed": errors.EXIT_FAILED,
        "cancelled": errors.EXIT_CANCELLED,
        "completed": errors.EXIT_NOT_VERIFIED,
        "lost": errors.EXIT_IN_DOUBT,
        "in-doubt": errors.EXIT_IN_DOUBT,
    }[row.outcome]
    assert row.exit_code == expected
    error = location_error("it happened", who, when)
    assert (str(error), error.exit_code) == (location_sentence("it happened", who, when), expected)
    if row.exit_code in (errors.EXIT_FAILED, errors.EXIT_CANCELLED):
        # Whoever reads these goes on with a guest that is still there, or never was.
        assert re.search("goes on at the source|no guest", row.words)
    if "ended with it" in row.words or "lost" in row.words:
        assert row.exit_code == errors.EXIT_IN_DOUBT


@pytest.mark.parametrize("state", list(State))
def test_how_far_a_source_is(state: State) -> None:
    when = when_of(Role.SOURCE, state)
    if state in MAY_RUN[Role.SOURCE] or state is State.PRE_SWITCHOVER:
        assert when is When.BEFORE
        assert when_of(Role.SOURCE, state, started=False) is When.NOTHING
    elif state in (State.DEVICE, State.POSTCOPY_DEVICE, State.IN_DOUBT):
        assert when is When.COMMITTED
    elif state is State.COMPLETED:
        assert when is When.WHOLE
    else:
        assert when is When.PARTLY


@pytest.mark.parametrize("state", list(State))
def test_how_far_a_destination_is(state: State) -> None:
    when = when_of(Role.DEST, state)
    if state in MAY_RUN[Role.DEST]:
        assert when is (When.PARTLY if state.startswith("postcopy") else When.WHOLE)
    elif state is State.LOST:
        assert when is When.PARTLY
    else:
        assert when is When.BEFORE
