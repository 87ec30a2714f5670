"""What a destination remembers of sessions that have ended."""

from __future__ import annotations

from typing import Any, cast

from pageferry.common.wire import messages
from pageferry.dest_agent.admission import MemoryBudget
from pageferry.dest_agent.guest_registry import Reservation
from pageferry.dest_agent.session_table import MAX_REMEMBERED, SessionLimits, SessionTable


class Ended:
    """As much of a session as is remembered."""

    def __init__(self, number: int, *, kept: bool, said_bye: bool) -> None:
        self.set_up = True
        self.session = f"{number:032x}"
        self.reservation, self.said_bye = Reservation(None, "s", MemoryBudget()), said_bye
        self.reservation.kept = kept

    def answer(self) -> messages.CommitOutcome:
        return messages.CommitOutcome(answer="running", resumed_ns=1)


def remember(table: SessionTable, ended: Ended) -> None:
    table._sessions[ended.session] = cast(Any, ended)
    table.remember(cast(Any, ended))


def test_a_guest_that_was_kept_is_never_forgotten_while_its_source_may_ask() -> None:
    table = SessionTable(SessionLimits(), MemoryBudget(None), tls=False)
    doubtful = Ended(1, kept=True, said_bye=False)
    remember(table, doubtful)
    for number in range(2, MAX_REMEMBERED + 3):
        remember(table, Ended(number, kept=number % 2 == 0, said_bye=True))
    assert len(table) == 0
    known = [number for number in range(2, MAX_REMEMBERED + 3) if table.knows(f"{number:032x}")]
    assert len(known) == MAX_REMEMBERED
    assert table.outcome(doubtful.session).answer == "running"
    assert table.knows(doubtful.session)  # nor is its name taken by another
