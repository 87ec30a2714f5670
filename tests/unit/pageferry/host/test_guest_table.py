"""The table of a host's guests: what may follow what, and what is said to those who must wait."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pageferry.common.errors import InternalError, LocalProtocolError, UsageError
from pageferry.common.guest.machine import Guest
from pageferry.host import guest_table
from pageferry.host.guest_table import _BUSY, _NEXT, MAX_GUESTS, Doing, Entry, Guests


class Fake:
    """A guest that only says when it fails."""

    def watch(self, tell: Any) -> None:
        self.tell = tell


GUEST = cast(Guest, Fake())


@pytest.fixture(autouse=True)
def _without_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_table, "to_loop", lambda tell: tell)


# What leads to each state, from a guest that is being booted.
WAYS: dict[Doing, list[Doing]] = {
    Doing.BOOTING: [],
    Doing.RUNNING: [Doing.RUNNING],
    Doing.MOVING: [Doing.RUNNING, Doing.MOVING],
    Doing.CHECKING: [Doing.RUNNING, Doing.CHECKING],
    Doing.IN_DOUBT: [Doing.RUNNING, Doing.MOVING, Doing.IN_DOUBT],
    Doing.ASKING: [Doing.RUNNING, Doing.MOVING, Doing.IN_DOUBT, Doing.ASKING],
    Doing.ENDING: [Doing.RUNNING, Doing.ENDING],
}


def table() -> tuple[Guests, list[str]]:
    said: list[str] = []
    return Guests(said.append), said


def at(guests: Guests, doing: Doing, name: str = "g") -> Entry:
    entry = guests.reserve(name, "idle", Doing.BOOTING)
    entry.guest = GUEST
    for step in WAYS[doing]:
        guests.turn(entry, step)
    return entry


@pytest.mark.parametrize("doing", WAYS)
@pytest.mark.parametrize("wanted", [Doing.MOVING, Doing.CHECKING, Doing.ENDING, Doing.ASKING])
def test_one_thing_at_a_time(doing: Doing, wanted: Doing) -> None:
    guests, _ = table()
    entry = at(guests, doing)
    allowed = {Doing.RUNNING: {Doing.MOVING, Doing.CHECKING, Doing.ENDING}}
    allowed[Doing.IN_DOUBT] = {Doing.ASKING, Doing.ENDING}
    if wanted in allowed.get(doing, ()):
        assert guests.claim("g", wanted) is entry
        assert entry.doing is wanted
    else:
        with pytest.raises(UsageError, match=r"guest g (is|runs)"):
            guests.claim("g", wanted)
        assert entry.doing is doing


def test_every_state_has_its_words() -> None:
    assert set(_NEXT) == set(_BUSY) == set(Doing)


def test_a_state_that_cannot_follow_is_refused() -> None:
    guests, _ = table()
    entry = at(guests, Doing.MOVING)
    with pytest.raises(LocalProtocolError, match="checking after moving"):
        guests.turn(entry, Doing.CHECKING)


def test_a_guest_that_arrives_is_admitted_once() -> None:
    guests, said = table()
    guests.admit("zipf-1")
    with pytest.raises(UsageError, match="zipf-1 is here already"):
        guests.admit("zipf-1")
    with pytest.raises(UsageError, match="still arriving"):
        guests.claim("zipf-1", Doing.MOVING)
    guests.keep("zipf-1", GUEST)
    assert guests.claim(None, Doing.MOVING).here is GUEST
    assert "zipf-1 has arrived" in said[-1]


def test_a_guest_that_does_not_arrive_leaves_its_name() -> None:
    guests, _ = table()
    guests.admit("g")
    guests.dismiss("g")
    assert guests.entries == []
    guests.admit("g")


def test_a_guest_that_runs_again_has_nothing_to_be_said_of_it() -> None:
    guests, _ = table()
    entry = at(guests, Doing.ASKING)
    entry.note, entry.doubt = "paused", cast(Any, object())
    guests.runs(entry)
    assert (entry.note, entry.doubt, entry.here) == ("", None, GUEST)


def test_a_vcpu_that_fails_is_said_and_noted() -> None:
    guests, said = table()
    entry = at(guests, Doing.RUNNING)
    guest = Fake()
    entry.guest = cast(Guest, guest)
    guests.turn(entry, Doing.MOVING)
    guests.runs(entry)
    guest.tell(InternalError("a vCPU failed: why"))
    assert entry.note == "a vCPU failed: why"
    assert said[-1].endswith(": a vCPU failed: why")


def test_a_guest_is_found_by_its_name_or_as_the_only_one() -> None:
    guests, _ = table()
    with pytest.raises(UsageError, match=r"which guest.*booted"):
        guests.find(None)
    first = guests.reserve(None, "zipf:skew=1.1", Doing.BOOTING)
    assert first.name.startswith("zipf-")
    assert guests.find(None) is first
    guests.reserve("b", "idle", Doing.BOOTING)
    with pytest.raises(UsageError, match=f"which guest.*{first.name} or b"):
        guests.find(None)
    with pytest.raises(UsageError, match="no guest c here"):
        guests.find("c")


def test_a_host_takes_so_many() -> None:
    guests, _ = table()
    for number in range(MAX_GUESTS):
        guests.reserve(f"g{number}", "idle", Doing.BOOTING)
    with pytest.raises(UsageError, match=f"{MAX_GUESTS} guests"):
        guests.admit("one-more")
