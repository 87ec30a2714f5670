"""Who belongs to a session, and how much memory guests may have together."""

from __future__ import annotations

import socket

import pytest

from pageferry.common.capacity import memory
from pageferry.common.capacity.memory import Room
from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import UsageError
from pageferry.common.wire import messages
from pageferry.common.wire.connection import Connection
from pageferry.dest_agent import admission
from pageferry.dest_agent.admission import Credentials, MemoryBudget

SESSION = "0123456789abcdef" * 2
TOKEN = "ab" * 32
MIB = 2**20


def hello(token: str = TOKEN) -> messages.Hello:
    return messages.Hello(role="bulk", session=SESSION, token=token)


def connection(certificate: bytes | None = None) -> Connection:
    made = Connection(socket.socket(), "peer")
    made.peer_certificate = certificate
    made.close()
    return made


def test_the_same_secret_and_the_same_certificate() -> None:
    credentials = Credentials.of(hello(), connection(b"x"))
    assert credentials.admit(hello(), connection(b"x"))
    assert not credentials.admit(hello("ac" * 32), connection(b"x"))
    assert not credentials.admit(hello(), connection(b"y"))
    assert not credentials.admit(hello(), connection())


def test_the_secret_is_not_shown() -> None:
    assert TOKEN not in repr(Credentials.of(hello(), connection()))
    assert TOKEN not in repr(hello())


def guest(mib: int, cache: int = 0) -> GuestConfig:
    return GuestConfig(memory=mib * MIB, cache=cache)


def test_guests_share_what_there_is() -> None:
    budget = MemoryBudget(100 * MIB)
    budget.book("a", guest(60))
    with pytest.raises(UsageError, match=r"guest of 41MiB.*--max-memory 100MiB beside 60MiB"):
        budget.book("b", guest(41))
    budget.book("b", guest(36, 4 * MIB))
    budget.release("a")
    budget.release("a")
    budget.book("c", guest(60))


def test_a_cache_counts_as_memory() -> None:
    with pytest.raises(UsageError, match=r"cache of (1024MiB|1GiB)"):
        MemoryBudget(100 * MIB).book("a", guest(16, 2**30))


def test_what_is_booked_and_untouched_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    touched, free = 60 * MIB, 1024 * MIB
    monkeypatch.setattr(memory, "rooms", lambda _root: [Room(free, free, "x")])
    monkeypatch.setattr(admission, "touched_bytes", lambda: touched)
    monkeypatch.setattr(admission, "is_compiled", lambda _workload: True)
    budget = MemoryBudget()
    budget.book("a", guest(800))
    with pytest.raises(UsageError, match=r"beside 800MiB that others will need, .* x's 1024MiB"):
        budget.book("b", guest(200))
    touched, free = touched + 800 * MIB, free - 800 * MIB  # it has come
    with pytest.raises(UsageError, match="needs 250MiB, and 224MiB is free"):
        budget.book("b", guest(200))
    budget.book("b", guest(170))
    budget.release("a")
    budget.release("b")
    touched, free = 60 * MIB, 1024 * MIB
    budget.book("b", guest(200))


def test_a_guest_with_the_name_of_a_session_is_not_that_session() -> None:
    budget = MemoryBudget(100 * MIB)
    budget.book(SESSION, guest(60))
    budget.release_guest(SESSION)  # it was to stay under this name, and never came
    with pytest.raises(UsageError, match="beside 60MiB"):
        budget.book("b", guest(60))


def test_a_guest_that_stays_has_its_memory_until_it_goes() -> None:
    budget = MemoryBudget(100 * MIB)
    budget.book(SESSION, guest(60))
    budget.keep(SESSION, SESSION)
    budget.release(SESSION)  # the session has ended
    with pytest.raises(UsageError, match="beside 60MiB"):
        budget.book_guest("b", guest(60))
    budget.release_guest(SESSION)
    budget.book_guest("b", guest(60))
