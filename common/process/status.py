"""What a running agent says of itself, and the pipe on which a supervisor reads it.

With `--status-fd N` an agent writes one JSON object a line to that descriptor, each with one key:
`listening` (an address), `resumed` (a session whose guest runs here), `whole` (one whose guest
lacks no page any more), `notice` (a line for a person), `status` (a `Status`, several a second) or
`report` (the last line). A
supervised agent is ended by SIGTERM when its supervisor (`--supervisor PID`, by default whoever is
its parent) dies: nothing is left behind.
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

PATIENCE_S: Final = 2.0  # with a reader who has stopped reading
REPORT_S: Final = 30.0  # with one who may be stopped, and then want the result
_PR_SET_PDEATHSIG: Final = 1


class Status(BaseModel):
    """A moment of a migration, for people to look at.

    round: 0 before the first. round_bytes, round_expected: of the present round. rate: bytes/s over
    the last interval. dirty_ratio: after the last round. notice: what a person who has asked for
    something must know. prediction: once it has been made. when: how far the hand-over has
    come, where there is one.
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

    Nor is one that has stopped reading a reason to wait for ever: it misses what is only true for
    a moment, and is waited for `PATIENCE_S` for the rest, `REPORT_S` for a report. After half a
    line nothing more is written.
    """

    def __init__(self, fd: int) -> None:
        try:
            os.fstat(fd)
        except (OSError, OverflowError):
            raise UsageError(f"--status-fd: {fd} is not an open descriptor") from None
        self._fd = fd
        self._over = False

    def write(self, key: str, value: Any) -> None:
        """One line, at once."""
        patience_s = {"status": 0.0, "report": REPORT_S}.get(key, PATIENCE_S)
        with contextlib.suppress(OSError):  # it may be a terminal, and that be gone
            self._write((json.dumps({key: value}) + "\n").encode(), patience_s)

    def _write(self, line: bytes, patience_s: float) -> None:
        """The descriptor may be shared with others who want it to block: it is left as it is."""
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
    """The supervisor's end: (key, value) of each line, until the agent is gone."""
    for line in lines:
        with contextlib.suppress(ValueError):  # an agent that was killed in the middle of a line
            yield from json.loads(line).items()


def supervised(status_fd: int | None, supervisor: int | None) -> int | None:
    """Which process supervises this one, and ends it by its own end; None: none does.

    supervisor: what it has said itself; None: it is our parent.
    """
    if status_fd is None:
        return None
    parent = os.getppid() if supervisor is None else supervisor
    die_with_parent(parent)
    return parent


def is_orphan(supervisor: int | None) -> bool:
    """Whether there was one, and it has died."""
    return supervisor is not None and os.getppid() != supervisor


def die_with_parent(parent: int) -> None:
    """Have SIGTERM sent to this process when its parent dies; at once where it has already.

    `parent` must come from the parent itself: it may have died while this process was starting.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
