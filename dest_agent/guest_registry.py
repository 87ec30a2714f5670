"""Who takes over a guest that has arrived, if its source says that it stays."""

from __future__ import annotations

from typing import Protocol

from pageferry.common.errors import UsageError
from pageferry.common.guest.machine import Guest
from pageferry.dest_agent.admission import MemoryBudget


class GuestRegistry(Protocol):
    """Owner of guests that stay; called on the event loop, `admit` before one of the others."""

    def admit(self, name: str) -> None:
        """Expect a guest of this name.

        Args:
            name: As the source asks for it; names come from peers.

        Raises:
            UsageError: It is not welcome.
        """
        ...

    def keep(self, name: str, guest: Guest) -> None:
        """Take over a guest that runs and misses no page; nobody else touches it from now on.

        Args:
            name: As it was admitted.
            guest: Running; the registry has to close it.
        """
        ...

    def dismiss(self, name: str) -> None:
        """Stop expecting a guest: it will not come, or it came and is lost.

        Args:
            name: As it was admitted.
        """
        ...


class Reservation:
    """What one session has with the registry: nothing, an awaited guest, or one that was kept.

    What the session has booked of the budget goes over to the guest when it is kept.

    Args:
        registry: None if guests are not kept here.
        session: The session's id, under which its memory is booked.
        budget: The agent's.

    Attributes:
        kept: Whether the guest has gone over to the registry.
    """

    def __init__(self, registry: GuestRegistry | None, session: str, budget: MemoryBudget) -> None:
        self._registry = registry
        self._session = session
        self._budget = budget
        self._name: str | None = None
        self.kept = False

    @property
    def awaited(self) -> bool:
        """Whether the guest is to stay, and is still the session's."""
        return self._name is not None

    def admit(self, name: str) -> None:
        """Have the registry expect the session's guest.

        Args:
            name: Under which it is to stay.

        Raises:
            UsageError: It can't stay here.
        """
        if self._registry is None:
            raise UsageError(
                "the guest is to stay, and this destination keeps none: expected a 'pageferry host'"
            )
        self._registry.admit(name)
        self._name = name

    def keep(self, guest: Guest) -> None:
        """Hand the guest to the registry, whatever becomes of the session.

        Args:
            guest: Awaited, running, without missing pages.
        """
        assert self._registry is not None  # noqa: S101
        assert self._name is not None  # noqa: S101
        name, self._name, self.kept = self._name, None, True
        self._budget.keep(self._session, name)
        self._registry.keep(name, guest)

    def dismiss(self) -> None:
        """Tell the registry to wait no longer; idempotent, and nothing once the guest is kept."""
        if self._registry is not None and self._name is not None:
            self._registry.dismiss(self._name)
            self._name = None
