"""Whom an arrived guest is left to, where its source says that it stays."""

from __future__ import annotations

from typing import Protocol

from common.guest.machine import Guest


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
