"""A guest that ran here before its migration, and stays where that ends."""

from __future__ import annotations

from dataclasses import dataclass

from pageferry.common.guest.machine import Guest


@dataclass(frozen=True, slots=True)
class Resident:
    """The session gets the guest running, and has it to itself until it has ended.

    It then runs here again, is paused where the outcome is in doubt, or has been closed because it
    is the destination's, which keeps it as `name` (`wire.messages.GuestName`).
    """

    guest: Guest
    name: str
