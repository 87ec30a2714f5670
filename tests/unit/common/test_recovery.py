"""The table of recovery: what counts, when an outage is over, and how long it may last."""

from __future__ import annotations

import pytest

from pageferry.common.errors import LocalProtocolError
from pageferry.common.recovery import (
    LONGEST_PAUSE_S,
    TABLE,
    Proof,
    Recovery,
    RecoveryEvent,
    RecoveryPhase,
)


def broken(limit_s: float = 5.0) -> Recovery:
    recovery = Recovery(limit_s)
    assert recovery.broke(0, 100.0)
    return recovery


def rejoined(recovery: Recovery) -> int:
    attempt = recovery.dial()
    recovery.joined(attempt)
    assert recovery.stands(attempt)
    return attempt


def test_every_phase_has_a_row_and_its_ends_are_ends() -> None:
    assert set(TABLE) == set(RecoveryPhase)
    assert set(TABLE[RecoveryPhase.GIVEN_UP].values()) == {RecoveryPhase.GIVEN_UP}
    assert set(TABLE[RecoveryPhase.SETTLED].values()) == {RecoveryPhase.SETTLED}


@pytest.mark.parametrize("phase", RecoveryPhase)
@pytest.mark.parametrize("event", RecoveryEvent)
def test_what_is_not_in_the_table_raises_and_changes_nothing(
    phase: RecoveryPhase, event: RecoveryEvent
) -> None:
    recovery = Recovery(5.0)
    recovery._phase = phase
    if event in TABLE[phase]:
        recovery._step(event)
        assert recovery.phase is TABLE[phase][event]
    else:
        with pytest.raises(LocalProtocolError, match="illegal in a recovery"):
            recovery._step(event)
        assert recovery.phase is phase


def test_the_limit_counts_from_the_beginning_whatever_happens_within() -> None:
    recovery = broken()
    for moment in (100.5, 102.0, 104.9):
        attempt = rejoined(recovery)
        assert recovery.broke(attempt, moment)
        assert recovery.deadline_s == 105.0
    assert recovery.left_s(104.0) == 1.0
    assert recovery.left_s(106.0) == 0.0


def test_connections_that_merely_stand_end_no_outage() -> None:
    recovery = broken()
    attempt = rejoined(recovery)
    assert recovery.out
    assert not recovery.proved(attempt, Proof.CONTROL)
    assert recovery.out
    assert recovery.proved(attempt, Proof.URGENT)
    assert not recovery.out
    assert recovery.phase is RecoveryPhase.WHOLE


@pytest.mark.parametrize("proof", [Proof.PAGE, Proof.NOTHING])
def test_a_page_is_enough_and_so_is_that_none_is_missing(proof: Proof) -> None:
    recovery = broken()
    assert recovery.proved(rejoined(recovery), proof)


def test_what_is_seen_before_all_connections_stand_counts_when_they_do() -> None:
    recovery = broken()
    attempt = recovery.dial()
    recovery.joined(attempt)
    assert not recovery.proved(attempt, Proof.CONTROL)
    assert not recovery.proved(attempt, Proof.URGENT)
    assert recovery.stands(attempt)
    assert recovery.phase is RecoveryPhase.WHOLE


def test_the_proofs_of_one_attempt_are_not_those_of_the_next() -> None:
    recovery = broken()
    first = rejoined(recovery)
    recovery.proved(first, Proof.CONTROL)
    recovery.broke(first, 101.0)
    second = rejoined(recovery)
    assert not recovery.proved(second, Proof.URGENT)
    assert not recovery.proved(first, Proof.CONTROL)
    assert recovery.out


def test_of_another_attempt_nothing_counts() -> None:
    recovery = broken()
    attempt = rejoined(recovery)
    assert not recovery.broke(attempt - 1, 101.0)
    assert not recovery.stands(attempt - 1)
    assert not recovery.admits(attempt - 1)
    assert not recovery.admits(attempt + 1)
    assert recovery.admits(attempt)
    assert recovery.broke(attempt, 102.0)
    assert not recovery.broke(attempt, 103.0)  # of its other connections, which is no news
    assert not recovery.admits(attempt)  # one of its connections that comes late has no use


def test_the_newest_wins_and_an_older_one_is_not_listened_to() -> None:
    recovery = broken()
    assert recovery.is_newer(2)
    recovery.joined(2)
    assert not recovery.is_newer(1)
    assert not recovery.is_newer(2)
    with pytest.raises(LocalProtocolError, match="comes after"):
        recovery.joined(1)
    assert recovery.is_newer(3)
    recovery.gave_up()
    assert not recovery.is_newer(3)


def test_pauses_grow_until_the_outage_is_over() -> None:
    recovery = broken()
    pauses = []
    for n in range(12):
        pauses.append(recovery.pause_s())
        recovery.broke(recovery.dial(), 100.0 + n)
    assert pauses[0] == 0.0
    assert pauses[1:] == sorted(pauses[1:])
    assert pauses[-1] == LONGEST_PAUSE_S
    recovery.proved(rejoined(recovery), Proof.PAGE)
    recovery.broke(recovery.attempt, 200.0)
    assert recovery.pause_s() == 0.0
    assert recovery.deadline_s == 205.0


def test_an_attempt_is_made_only_where_the_stream_is_broken() -> None:
    with pytest.raises(LocalProtocolError):
        Recovery(5.0).dial()


def test_a_source_that_missed_the_end_is_heard_again_and_again() -> None:
    recovery = broken()
    recovery.settled()
    assert recovery.phase is RecoveryPhase.SETTLED
    assert not recovery.out
    for attempt in (1, 2):
        assert recovery.is_newer(attempt)
        recovery.joined(attempt)
        assert recovery.phase is RecoveryPhase.SETTLED
