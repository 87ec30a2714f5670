"""The end of a process that has been told to end, and may not be able to.

A thread waits for a few seconds, and ends the process as it stands: whatever hangs then, no process
of ours is one that only SIGKILL can end. What has ended by itself before is not touched.
"""

from __future__ import annotations

import threading

from pageferry.common.process.signals import leave
from pageferry.common.termination import LAST_RESORT_S

_armed = threading.Lock()


def last_resort(line: str, exit_code: int, after_s: float = LAST_RESORT_S) -> None:
    """End this process in so many seconds, with this line for a person. Only the first counts."""
    if _armed.acquire(blocking=False):
        timer = threading.Timer(after_s, leave, (line, exit_code))
        timer.daemon = True
        timer.name = "last-resort"
        timer.start()
