"""A guest that ran here before its migration, and stays wherever the migration ends."""

from __future__ import annotations

from dataclasses import dataclass

from pageferry.common.guest.machine import Guest


@dataclass(frozen=True, slots=True)
class Resident:
    """A running guest that is lent to a session.

    The session gets the guest running, and has it to itself until the session has ended. The guest
    then runs here again, is paused where the outcome is in doubt, or has been closed because it is
    now the destination's.

    Attributes:
        guest: The guest; it runs.
        name: The name under which the destination keeps it (`wire.messages.GuestName`).
    """

    guest: Guest
    name: str
