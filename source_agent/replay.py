"""The source's paused copy, run on to the step at which the guest ended at the destination."""

from __future__ import annotations

from pageferry.common.errors import VerificationError
from pageferry.common.guest.machine import Guest
from pageferry.common.wire import bitmap, messages


def replay_copy(guest: Guest, finished: messages.Finished) -> str:
    """Run the paused copy to the destination's step counts, and digest it.

    Where pages never travelled (lazy copy), the destination could digest the others only. The pages
    that it never had must be unchanged by the replay, or the guest would have needed them.

    Args:
        guest: The paused copy; it stays paused at the new steps, with its cache drained.
        finished: The destination's result: steps of each vCPU, and the pages that never came.

    Returns:
        xxh3_128 of memory and registers in hex; after a lazy copy only of the pages that came.

    Raises:
        VerificationError: The replay changed pages that the destination never had.
        PageferryError: The replay was abandoned, or no vCPU made progress.
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
