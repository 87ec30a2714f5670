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
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import BaseModel

from common.errors import UsageError
from common.report import PredictionReport
from common.whereabouts import When

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
    """The agent's end. A reader that has gone away is no reason to fail: SIGTERM comes with it."""

    def __init__(self, fd: int) -> None:
        try:
            self._file = os.fdopen(fd, "w", encoding="utf-8", buffering=1)
        except (OSError, ValueError, OverflowError):
            raise UsageError(f"--status-fd: {fd} is not an open descriptor") from None

    def write(self, key: str, value: Any) -> None:
        """One line, at once."""
        with contextlib.suppress(OSError):  # it may be a terminal, and that be gone
            self._file.write(json.dumps({key: value}) + "\n")


def read_status(lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The supervisor's end: (key, value) of each line, until the agent is gone."""
    for line in lines:
        with contextlib.suppress(ValueError):  # an agent that was killed in the middle of a line
            yield from json.loads(line).items()


def die_with_parent(parent: int) -> None:
    """Have SIGTERM sent to this process when its parent dies; at once where it has already.

    `parent` must come from the parent itself: it may have died while this process was starting.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
