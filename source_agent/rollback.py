"""A guest that was not moved after all: it goes on at the source."""

from __future__ import annotations

import asyncio
from typing import Final

from pageferry.common.guest.machine import Guest
from pageferry.common.timeline import Timeline

LOOK_S: Final = 0.01
LOOKS: Final = 200


async def resume_at_source(guest: Guest, timeline: Timeline) -> bool:
    """Let the guest run as before the migration.

    Args:
        guest: Its hold, throttle, dirty limit and tracking by the kernel are ended; it is resumed
            where it is paused.
        timeline: Is told when the guest was resumed, and when it was seen to run.

    Returns:
        Whether it was seen to run within `LOOKS` looks; False for a guest that had not been
        started.
    """
    if guest.state == "new":
        return False  # it had not been started
    guest.hold(False)
    guest.throttle(0.0)
    guest.limit_dirty(None)
    guest.track_by_log()
    if guest.state == "paused":
        resumed_ns = guest.resume()
        timeline.log("guest-runs", t_ns=resumed_ns, where="source")
    before = guest.progress()
    for _ in range(LOOKS):
        await asyncio.sleep(LOOK_S)
        if guest.progress().steps > before.steps:
            timeline.log("guest-goes-on", where="source")
            return True
    return False


def stop_and_digest(guest: Guest, timeline: Timeline) -> None:
    """Log the guest's steps and digest, for tests that asked for a witness. Blocks.

    Args:
        guest: Is stopped for good, and drained.
        timeline: Gets the events `guest-stopped` and `digested`.
    """
    guest.stop()
    guest.drain()
    timeline.log("guest-stopped", steps=list(guest.steps()))
    timeline.log("digested", digest=guest.digest())
