"""The two ends' protocol, joined in memory: every phase, cut, cancel and question."""

from __future__ import annotations

from collections import Counter

import pytest

from pageferry.common.handover import State
from tests.support.protocol_pair import World
from tests.support.tiers import FULL

SCHEDULES = 20_000 if FULL else 2000
EVERYTHING = {
    *("deliver_to_dest", "deliver_to_source", "deliver_bulk", "source_acts", "dest_acts"),
    *("source_notices", "dest_notices", "dest_is_told", "cut", "cancel", "dest_gives_up"),
    *("ask", "question", "answer", "dial", "stand", "prove", "time_passes"),
}


def played(seed: int) -> World:
    world = World(seed)
    world.play()
    return world


def test_there_are_never_two_guests_and_the_ends_agree() -> None:
    seen: Counter[str] = Counter()
    ends: Counter[tuple[State, State]] = Counter()
    for seed in range(SCHEDULES):
        try:
            world = played(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        seen.update(world.seen.keys())
        source, dest = world.source, world.dest
        ends[source.state, dest.state] += 1
        if source.state is State.COMPLETED:
            assert dest.state in (State.COMPLETED, State.POSTCOPY_DEVICE), f"seed {seed}"
        if source.protocol.handover.may_run_guest and source.committed:
            assert not dest.protocol.handover.may_run_guest, f"seed {seed}"
        if source.state is State.FAILED:
            assert not dest.has_run, f"seed {seed}: it goes on as if it had never run there"
    assert set(seen) == EVERYTHING
    reached = {end for pair in ends for end in pair}
    assert {State.COMPLETED, State.CANCELLED, State.FAILED, State.LOST, State.IN_DOUBT} <= reached
    assert (State.REWOUND, State.LOST) in ends


@pytest.mark.parametrize("seed", range(20))
def test_without_any_trouble_the_guest_moves(seed: int) -> None:
    world = World(seed)
    world.cuts, world.cancels, world.dest_fails = [], None, None
    world.resume_fails = False
    world.play()
    assert world.source.state is State.COMPLETED
    assert world.dest.state is State.COMPLETED
    assert world.dest.said_bye
    assert not world.source.runs
    assert world.dest.runs
