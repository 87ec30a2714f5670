"""Small guests that are always closed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest.machine import Guest

MakeGuest = Callable[..., Guest]


@pytest.fixture
def make_guest() -> Iterator[MakeGuest]:
    guests: list[Guest] = []

    def make(*, boot: bool = True, start: bool = True, **options: Any) -> Guest:
        settings = {"memory": "4MiB", "cache": "64KiB", **options}
        guest = Guest(GuestConfig(**settings), boot=boot)
        guests.append(guest)
        if start:
            guest.start()
        return guest

    yield make
    for guest in guests:
        guest.close()


def until(ready: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.001)


def run_for(guest: Guest, steps: int) -> None:
    """A running guest takes at least so many steps more, each vCPU."""
    goal = [done + steps for done in guest.steps()]
    until(lambda: all(done >= want for done, want in zip(guest.steps(), goal, strict=True)))
