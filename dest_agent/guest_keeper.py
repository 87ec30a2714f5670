"""Whom an arrived guest is left to, where its source says that it stays."""

from __future__ import annotations

from typing import Protocol

from pageferry.common.errors import UsageError
from pageferry.common.guest.machine import Guest
from pageferry.dest_agent.admission import MemoryBudget


class Keeper(Protocol):
    """Called on the event loop: `admit` first, then one of the other two."""

    def admit(self, name: str) -> None:
        """A guest of this name is about to come. Raises `UsageError` where it is not welcome."""
        ...

    def keep(self, name: str, guest: Guest) -> None:
        """It runs, nothing of it is missing, and nobody else touches it from now on."""
        ...

    def dismiss(self, name: str) -> None:
        """It will not come, or came and is lost."""
        ...


class Place:
    """What one session has with the keeper: nothing, a guest that is awaited, or one that is kept.

    keeper: None where guests are not kept. What the session has booked of the budget is the guest's
    when it is kept.
    """

    def __init__(self, keeper: Keeper | None, session: str, budget: MemoryBudget) -> None:
        self._keeper = keeper
        self._session = session
        self._budget = budget
        self._name: str | None = None
        self.kept = False

    @property
    def awaited(self) -> bool:
        """Whether the guest is to stay, and is the session's so far."""
        return self._name is not None

    def admit(self, name: str) -> None:
        """Raises `UsageError` where it can't stay."""
        if self._keeper is None:
            raise UsageError(
                "the guest is to stay, and this destination keeps none: expected a 'pageferry host'"
            )
        self._keeper.admit(name)
        self._name = name

    def keep(self, guest: Guest) -> None:
        """The guest is the keeper's, whatever becomes of the session. It must be awaited."""
        assert self._keeper is not None  # noqa: S101
        assert self._name is not None  # noqa: S101
        name, self._name, self.kept = self._name, None, True
        self._budget.keep(self._session, name)
        self._keeper.keep(name, guest)

    def dismiss(self) -> None:
        """Nobody need wait any longer; idempotent."""
        if self._keeper is not None and self._name is not None:
            self._keeper.dismiss(self._name)
            self._name = None
