"""What a worker of the cluster runs. It is called by name there: the package is installed.

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
from pageferry.sweeps.cell import CellOutcome, Order
from pageferry.sweeps.environment import cluster_environment
from pageferry.sweeps.workers_memory import WorkerRoom

_CANCELLED: Final = CellOutcome(cancelled=True, exit_code=EXIT_CANCELLED).model_dump_json()
_BUSY = threading.Lock()
_guard = threading.Lock()  # of the two below
_running: dict[str, subprocess.Popen[str]] = {}
_stopped: set[str] = set()


class CellProcessDied(Exception):
    """A cell's process that ended without writing an outcome."""


def version() -> str:
    """Return the version of pageferry that this worker has.

    Returns:
        The package's version, which must be that of the machine that hands out cells.
    """
    return __version__


def worker_versions() -> dict[str, str]:
    """Return the versions that this worker runs cells with.

    Returns:
        Versions by name, as `cluster_environment` has them.
    """
    return dict(cluster_environment())


def room() -> str:
    """Tell how much memory is free here, and under whose limit.

    Returns:
        A `WorkerRoom` as JSON, of the tightest limit that binds this process.
    """
    tightest = least()
    place = "" if tightest is None else tightest.source
    free = None if tightest is None else tightest.free
    return WorkerRoom(place=f"{platform.node()}: {place}", free=free).model_dump_json()


def run_order(order: str) -> str:
    """Run one cell in a process of its own, and wait for it.

    Blocks while this worker runs another cell.

    Args:
        order: An `Order` as JSON.

    Returns:
        A `CellOutcome` as JSON. A cell that was stopped, or whose process got SIGINT, is cancelled.

    Raises:
        CellProcessDied: The process was killed, or failed without an outcome.
    """
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


def cancel_orders(tokens: list[str]) -> None:
    """Cancel orders, whether they have begun or not.

    Args:
        tokens: The orders' tokens. A running one's process gets SIGINT; one that has not begun is
            answered as cancelled when its turn comes.
    """
    with _guard:
        for token in tokens:
            process = _running.get(token)
            if process is None:
                _stopped.add(token)
            else:
                process.send_signal(signal.SIGINT)
