"""What a running agent says of itself, and the pipe on which a supervisor reads it.

With `--status-fd N` an agent writes one JSON object a line to that descriptor, each with one key:
`listening` (an address), `resumed` (a session whose guest runs here), `whole` (one whose guest
lacks no page any more), `notice` (a line for a person), `status` (a `Status`, several a second) or
`report` (the last line). A supervised agent is ended by SIGTERM when its supervisor (`--supervisor
PID`, by default its parent) dies: nothing is left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import BaseModel

from pageferry.common.errors import UsageError
from pageferry.common.files.output_pipe import write_some
from pageferry.common.guest_location import When
from pageferry.common.report.sections.prediction import PredictionReport

PATIENCE_S: Final = 2.0  # with a reader that has stopped reading
REPORT_S: Final = 30.0  # with one that may be stopped, and want the result later
_PR_SET_PDEATHSIG: Final = 1


class Status(BaseModel):
    """A moment of a migration, for people to look at.

    Attributes:
        phase: What is going on, in words.
        round: The present round; 0 before the first.
        round_bytes: What the present round has put on the wire.
        round_expected: What it is expected to put on the wire in all; 0: not known.
        total_bytes: What has gone over the wire so far.
        rate: Bytes/s over the last interval.
        dirty_ratio: The share of memory that was dirty after the last round; None before that.
        elapsed_s: Seconds since the migration's start.
        notice: What a person who has asked for something must know.
        prediction: Once it has been made.
        when: How far the hand-over has come, where there is one.
    """

    phase: str
    round: int = 0
    round_bytes: int = 0
    round_expected: int = 0
    total_bytes: int = 0
    rate: float = 0.0
    dirty_ratio: float | None = None
    elapsed_s: float = 0.0
    notice: str | None = None
    prediction: PredictionReport | None = None
    when: When | None = None


class StatusPipe:
    """The agent's end. A reader that has gone away is no reason to fail: SIGTERM comes with it.

    Neither is one that has stopped reading a reason to wait for ever. It misses what is only true
    for a moment; for the rest it is waited for `PATIENCE_S`, for a report `REPORT_S`. After half a
    line nothing more is written.

    Args:
        fd: The descriptor, which is never closed here.

    Raises:
        UsageError: The descriptor is not open.
    """

    def __init__(self, fd: int) -> None:
        try:
            os.fstat(fd)
        except (OSError, OverflowError):
            raise UsageError(f"--status-fd: {fd} is not an open descriptor") from None
        self._fd = fd
        self._over = False

    def write(self, key: str, value: Any) -> None:
        """Write one line at once, or drop it where the reader does not read.

        Args:
            key: What the line is about, see the module.
            value: What JSON can hold.
        """
        patience_s = {"status": 0.0, "report": REPORT_S}.get(key, PATIENCE_S)
        with contextlib.suppress(OSError):  # it may be a terminal that is gone
            self._write((json.dumps({key: value}) + "\n").encode(), patience_s)

    def _write(self, line: bytes, patience_s: float) -> None:
        """Write a line, and leave the descriptor's mode as it is.

        It may be shared with others who want it to block.
        """
        until = time.monotonic() + patience_s
        left = memoryview(line)
        while left and not self._over:
            n = write_some(self._fd, left, max(until - time.monotonic(), 0.0))
            left = left[n:]
            if not n:
                begun = len(left) < len(line)
                if begun and patience_s == 0:
                    until, patience_s = time.monotonic() + PATIENCE_S, PATIENCE_S
                    continue
                self._over = begun
                return


def read_status(lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Read the supervisor's end until the agent is gone.

    Args:
        lines: Of the pipe. A line that was cut off is left out.

    Yields:
        (key, value) of each line.
    """
    for line in lines:
        with contextlib.suppress(ValueError):  # an agent that was killed in the middle of a line
            yield from json.loads(line).items()


def supervised(status_fd: int | None, supervisor: int | None) -> int | None:
    """Find out which process supervises this one, and have its end end this process.

    Args:
        status_fd: The descriptor of `--status-fd`; None: nobody supervises this process.
        supervisor: The process id that the supervisor gave for itself; None: it is our parent.

    Returns:
        Its process id; None: there is none.
    """
    if status_fd is None:
        return None
    parent = os.getppid() if supervisor is None else supervisor
    die_with_parent(parent)
    return parent


def is_orphan(supervisor: int | None) -> bool:
    """Tell whether this process had a supervisor that has died.

    Args:
        supervisor: As `supervised` returned it.

    Returns:
        False where there was none.
    """
    return supervisor is not None and os.getppid() != supervisor


def die_with_parent(parent: int) -> None:
    """Have SIGTERM sent to this process when its parent dies; at once where it has died already.

    Args:
        parent: The parent's process id, from the parent itself: it may have died while this process
            was starting.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
