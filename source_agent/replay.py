"""The source's paused copy, run on to where the guest has ended at the destination."""

from __future__ import annotations

from pageferry.common.errors import VerificationError
from pageferry.common.guest.machine import Guest
from pageferry.common.wire import bitmap, messages


def replay(guest: Guest, finished: messages.Finished) -> str:
    """The digest of this copy after the same steps. Raises `VerificationError`.

    Where pages never travelled (lazy copy) the destination could digest the others only; those
    it never had must be as they were, or the guest would have needed them.
    """
    guest.track_by_log()
    missing = finished.postcopy.missing if finished.postcopy else None
    if missing is None:
        guest.run_until(finished.steps)
        guest.drain()
        return guest.digest()
    untouched = bitmap.unpack(missing, guest.n_pages)
    before = guest.digest_of(untouched, registers=False)
    guest.run_until(finished.steps)
    guest.drain()
    if guest.digest_of(untouched, registers=False) != before:
        raise VerificationError("the replay changed pages that the destination never had")
    return guest.digest_of(~untouched)
