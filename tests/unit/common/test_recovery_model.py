"""Both ends' recovery, in virtual time, over networks that cut, delay and reorder connections."""

from __future__ import annotations

import random

import pytest

from pageferry.common.errors import GuestLostError, InDoubtError
from pageferry.common.handover import State
from pageferry.common.recovery import Recovery, RecoveryPhase
from tests.support.recovery_world import LIMIT_S, PAGE_S, PAGES, Ended, World, delays, play
from tests.support.tiers import FULL
from tests.support.virtual_clock import run

SEEDS = 300 if FULL else 75
# Schedules of thousands of cuts each: with 14 it is the last word that is lost for good.
FOR_EVER = range(20) if FULL else (0, 14)


def played(seed: int, *, cuts: int = 6, longest_s: float = 1.0) -> Ended:
    rng = random.Random(seed)  # noqa: S311
    span_s = rng.choice([PAGES * PAGE_S, 3 * PAGES * PAGE_S])
    moments = [rng.uniform(0.0, span_s) for _ in range(rng.randint(0, cuts))]
    if rng.random() < 0.3:  # one upon the other
        moments = [moment * 0.1 for moment in moments]
    return run(play(World(moments, delays(rng, longest_s))))


def judge(ended: Ended) -> None:
    """Nothing that one end says contradicts the other; a cut costs one attempt."""
    source, dest = ended.source, ended.dest
    if source.error is None:
        assert source.handover.state is dest.handover.state is State.COMPLETED
    elif isinstance(source.error, InDoubtError):
        assert dest.handover.state in (State.COMPLETED, State.LOST)
    else:
        assert isinstance(source.error, GuestLostError)
        assert dest.handover.state is State.LOST
    if dest.handover.state is State.COMPLETED:
        assert not dest.missing.any()
    assert ended.world.attempts <= ended.world.made + 1


@pytest.mark.parametrize("seed", range(SEEDS))
def test_cuts_and_delays_cost_one_attempt_each_and_no_guest(seed: int) -> None:
    ended = played(seed)
    judge(ended)
    # Whoever cuts has an end, and so does the outage: everything has come through.
    assert ended.source.error is None


def test_a_network_that_is_cut_for_ever_ends_it_within_the_limit_on_both_sides() -> None:
    for seed in FOR_EVER:
        rng = random.Random(seed)  # noqa: S311
        moments = [0.3 + 0.05 * n for n in range(4000)]
        ended = run(play(World(moments, delays(rng, 0.2))))
        source, dest = ended.source, ended.dest
        assert isinstance(source.error, GuestLostError | InDoubtError)
        assert dest.handover.state is State.LOST
        assert dest.recovery.phase is RecoveryPhase.GIVEN_UP
        # A page that comes through ends an outage, however short it is.
        assert LIMIT_S <= ended.took_s <= 0.3 + LIMIT_S * 3


def test_where_only_the_last_word_is_lost_for_good_the_source_says_that_nobody_knows() -> None:
    """Everything has been sent, and then nothing comes back any more."""
    end_s = PAGES * PAGE_S

    def ended(seed: int) -> Ended:
        rng = random.Random(seed)  # noqa: S311
        moments = [end_s + 0.005 * n for n in range(16_000)]
        return run(play(World(moments, delays(rng, 0.05))))

    results = [ended(seed) for seed in FOR_EVER]
    doubts = [each for each in results if isinstance(each.source.error, InDoubtError)]
    assert doubts
    for each in results:
        judged = each.source.error is None or isinstance(each.source.error, InDoubtError)
        assert judged or each.dest.handover.state is State.LOST
    assert {each.dest.handover.state for each in doubts} <= {State.COMPLETED, State.LOST}


@pytest.fixture
def without_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection is taken for one of the present attempt, whichever it is of."""
    broke, proved, stands = Recovery.broke, Recovery.proved, Recovery.stands
    monkeypatch.setattr(Recovery, "broke", lambda self, _n, now: broke(self, self.attempt, now))
    monkeypatch.setattr(Recovery, "admits", lambda _self, _n: True)
    monkeypatch.setattr(
        Recovery, "is_newer", lambda self, n: n >= 0 and self.phase is not RecoveryPhase.GIVEN_UP
    )
    monkeypatch.setattr(Recovery, "proved", lambda self, _n, p: proved(self, self.attempt, p))
    monkeypatch.setattr(Recovery, "stands", lambda self, _n: stands(self, self.attempt))
    joined = Recovery.joined
    monkeypatch.setattr(Recovery, "joined", lambda self, n: joined(self, max(n, self.attempt)))


@pytest.mark.usefixtures("without_attempts")
def test_without_the_attempt_number_it_does_not_hold() -> None:
    def holds(seed: int) -> bool:
        try:
            ended = played(seed)
            judge(ended)
            assert ended.source.error is None
        except (AssertionError, TimeoutError):
            return False
        return True

    assert not all(holds(seed) for seed in range(SEEDS))
