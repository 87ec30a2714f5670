"""The end of a process that has been told to end, and may not be able to.

A thread waits for a few seconds, then ends the process as it stands: whatever hangs by then,
SIGKILL is never the only way to end a process of ours. A process that has ended by itself is not
affected.
"""

from __future__ import annotations

import threading

from pageferry.common.process.signals import leave
from pageferry.common.termination import LAST_RESORT_S

_armed = threading.Lock()


def last_resort(line: str, exit_code: int, after_s: float = LAST_RESORT_S) -> None:
    """End this process in a few seconds, unless it ends by itself. Only the first call counts.

    Args:
        line: For a person, printed at that moment.
        exit_code: Of the process.
        after_s: How many seconds it has.
    """
    if _armed.acquire(blocking=False):
        timer = threading.Timer(after_s, leave, (line, exit_code))
        timer.daemon = True
        timer.name = "last-resort"
        timer.start()
