"""What a worker of the cluster is asked to do. Called by name there: the package is installed.

A worker never runs two cells at once, whoever asks: a second one waits for the first.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import threading
from typing import Final

from pageferry._version import __version__
from pageferry.common.capacity.memory import least
from pageferry.common.capacity.oom import OomWatch, how_ended
from pageferry.common.errors import EXIT_CANCELLED
from pageferry.common.process import signals
from pageferry.common.process.python_command import python_command
from pageferry.sweeps.cell import Order, Outcome
from pageferry.sweeps.environment import cluster_environment
from pageferry.sweeps.sharing import WorkerRoom

_CANCELLED: Final = Outcome(cancelled=True, exit_code=EXIT_CANCELLED).model_dump_json()
_BUSY = threading.Lock()
_guard = threading.Lock()  # of the two below
_running: dict[str, subprocess.Popen[str]] = {}
_stopped: set[str] = set()


class CellProcessDied(Exception):
    """The process that ran a cell is gone and has said nothing."""


def version() -> str:
    """Of the package that this worker has."""
    return __version__


def about() -> dict[str, str]:
    """What this worker runs cells with."""
    return dict(cluster_environment())


def room() -> str:
    """A `WorkerRoom` as JSON: what is free here, and of what."""
    tightest = least()
    place = "" if tightest is None else tightest.source
    free = None if tightest is None else tightest.free
    return WorkerRoom(place=f"{platform.node()}: {place}", free=free).model_dump_json()


def run_order(order: str) -> str:
    """An `Order` to an `Outcome`, both JSON. Raises `CellProcessDied`."""
    token = Order.model_validate_json(order).token
    with _BUSY:
        command = python_command("pageferry.sweeps.cell", str(os.getpid()))
        with _guard:
            if token in _stopped:
                _stopped.discard(token)
                return _CANCELLED
            oom = OomWatch()
            with signals.blocked():
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    process_group=0,
                )
            _running[token] = process
        try:
            out, err = process.communicate(order)
        finally:
            with _guard:
                del _running[token]
                _stopped.discard(token)
    if process.returncode in (-signal.SIGINT, EXIT_CANCELLED):
        return _CANCELLED
    if process.returncode:
        words = err.strip().splitlines()[-1:] or ["it said nothing"]
        killed_by = how_ended(process.returncode, oom)
        how = f"ended by {killed_by}" if killed_by else f"exit code {process.returncode}"
        raise CellProcessDied(f"{how}: {words[0]}")
    return out


def stop(tokens: list[str]) -> None:
    """Cancel these, whether they have begun or not."""
    with _guard:
        for token in tokens:
            process = _running.get(token)
            if process is None:
                _stopped.add(token)
            else:
                process.send_signal(signal.SIGINT)
