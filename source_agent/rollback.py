"""A guest that was not moved after all: it goes on at the source."""

from __future__ import annotations

import asyncio
from typing import Final

from pageferry.common.guest.machine import Guest
from pageferry.common.timeline import Timeline

LOOK_S: Final = 0.01
LOOKS: Final = 200


async def go_on(guest: Guest, timeline: Timeline) -> bool:
    """Let it run as before the migration; whether it was seen to."""
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


def testify(guest: Guest, timeline: Timeline) -> None:
    """What became of it, for who asked for a witness."""
    guest.stop()
    guest.drain()
    timeline.log("guest-stopped", steps=list(guest.steps()))
    timeline.log("digested", digest=guest.digest())
