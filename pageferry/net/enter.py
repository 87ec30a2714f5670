"""Enter a network namespace, with a thread of ours or a command (`python -m pageferry.net.enter`).

It needs nothing but the standard library, since every agent of a run starts through it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from pageferry.common.errors import EXIT_USAGE, PageferryError, UsageError
from pageferry.common.process.python_command import python_command

FOLDER: Final = "/run/netns"  # where iproute2 keeps them, too
_CLONE_NEWNET: Final = 0x40000000
_T = TypeVar("_T")


def _enter(namespace: str) -> None:
    """Move the calling thread into a namespace, for good. Raises `OSError`."""
    fd = os.open(f"{FOLDER}/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(fd)


def inside(namespace: str, work: Callable[[], _T]) -> _T:
    """Run a function in a network namespace; sockets and devices that it opens stay in there.

    It runs on a thread of its own, which this call waits for; the calling thread does not move.

    Args:
        namespace: Name of the namespace, as `ip netns` lists it.
        work: The function.

    Returns:
        What `work` returned.

    Raises:
        OSError: The namespace is not there, or may not be entered.
        BaseException: Whatever `work` has raised.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            _enter(namespace)
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name=f"in {namespace}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def replace_with(namespace: str, command: Sequence[str]) -> None:
    """Become a command in a network namespace; this never returns.

    Args:
        namespace: Name of the namespace, as `ip netns` lists it.
        command: The program, looked for on PATH, and its arguments.

    Raises:
        UsageError: The namespace is not there or can't be entered, or the command can't be run.
    """
    try:
        _enter(namespace)
    except FileNotFoundError:
        raise UsageError(f"there is no namespace {namespace}: pageferry net up makes one") from None
    except OSError as error:
        raise UsageError(f"can't enter the namespace {namespace}: {error.strerror}") from None
    try:
        # Python ignores SIGPIPE, and the command would inherit that.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvp(command[0], list(command))  # noqa: S606 - this is what it is for
    except OSError as error:
        raise UsageError(f"can't run {command[0]}: {error.strerror}") from None


def prefix(namespace: str) -> list[str]:
    """Build the words that go before a command so that it runs in a network namespace.

    Args:
        namespace: Name of the namespace, as `ip netns` lists it.

    Returns:
        The words: this interpreter and this module with its argument.
    """
    return python_command("pageferry.net.enter", namespace)


if __name__ == "__main__":
    try:
        replace_with(sys.argv[1], sys.argv[2:])
    except PageferryError as failure:
        print(f"pageferry: {failure}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
