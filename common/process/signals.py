"""Signals that ask a process to end, from its first line to its last: one rule for every command.

INT and TERM ask; so does HUP (the terminal or the ssh session is gone), but only where nobody has
asked before: any number of HUPs is one first signal, and never a second one. A HUP that was ignored
when the process began (`nohup`) stays ignored, also in the processes that it starts. In a process
of ours, every other signal that would end it silently, and that another process must have sent, is
taken like a HUP: whatever ends it, except KILL, it says where its guest is.

There is one handler all the time, which gives a signal to the present *receiver*:

    at first          nothing has been started: one line, and the end at once
    `received`        whoever can cancel what is under way
    `noted`           it waits for the next receiver: files are open, nobody listens yet
    `raising`         blocking code that cleans up as `KeyboardInterrupt` unwinds it
    at last           nothing: all that is left is to report the end

An exception is raised in `raising` only: where the interpreter calls a finalizer or a callback of a
compiler, what a handler raises is printed and forgotten.

All this is for the main thread. Work on another thread is asked to end by whoever started it,
through an `Asker` (`common.process.asking`), which takes the place of signals there: the same
receivers are told, and the process's own handlers are left alone. A thread without one is never
asked.

A process of ours begins with these signals blocked (`blocked`), and lets them in with `begin`: none
of them can kill it silently before it has anything to say.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
from contextlib import contextmanager, nullcontext, suppress

TYPE_CHECKING = False  # this is imported first: typing takes longer than the rest of it
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Any, Final

    from pageferry.common.process.asking import Asker

    Receiver = Callable[[int], None]

ASKING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# By default they end a process, and nothing of ours uses them.
OTHERS: Final = (
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM),
    *(signal.SIGPROF, signal.SIGXCPU, signal.SIGIO, signal.SIGPWR),
)
EXIT_CANCELLED: Final = 130  # as common.errors, which this can't wait for
NOTHING_STARTED: Final = "cancelled: no guest had been started"  # as common.guest_location
# Named files that must not be left behind by an end at once: see `common.files.atomic_file`.
LEFTOVERS: Final[set[str]] = set()

# Who may ask the work of a thread to end, by the thread's identity.
ASKERS: Final[dict[int, Asker]] = {}

_SHOW_CURSOR: Final = "\r\x1b[K\x1b[?25h"  # a progress line may have hidden it


class _Process:
    """What is known of this process."""

    def __init__(self) -> None:
        self.receiver: Receiver = _leave
        self.begun = False  # whether the handler stays when nobody receives
        self.asked = False
        self.depth = 0
        self.unheeded: list[int] = []


def leave(line: str, exit_code: int) -> None:
    """End the process at once: there is nothing to undo but the names of files.

    Args:
        line: For a person, printed on standard error.
        exit_code: Of the process.
    """
    for path in LEFTOVERS:
        with suppress(OSError):
            os.unlink(path)
    with suppress(OSError, ValueError, AttributeError):
        terminal = sys.stderr.isatty()
        os.write(2, f"{_SHOW_CURSOR * terminal}pageferry: {line}\n".encode())
    os._exit(exit_code)


def _leave(_number: int) -> None:
    """Leave before anything has been started."""
    leave(NOTHING_STARTED, EXIT_CANCELLED)


def _ignore(_number: int) -> None:
    """Do nothing: all that is left is to report the end."""


_process: Final = _Process()


def _handle(number: int, _frame: Any) -> None:
    """Give a signal to the receiver, unless it is a HUP or the like after a first one."""
    if number not in (signal.SIGINT, signal.SIGTERM) and _process.asked:
        return
    _process.asked = True
    _process.receiver(number)


def ours() -> list[signal.Signals]:
    """List the signals that this process acts on.

    Returns:
        Without those that were ignored when it began, except INT and TERM.
    """
    every = (*ASKING, *OTHERS) if _process.begun else ASKING
    return [
        number
        for number in every
        if number in (signal.SIGINT, signal.SIGTERM)
        or signal.getsignal(number) is not signal.SIG_IGN
    ]


def begin() -> None:
    """Install the handler and let the signals in: the first thing that a process does.

    Only in its main thread.
    """
    _process.begun = True
    for number in ours():
        signal.signal(number, _handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*ASKING, *OTHERS))


def ignore_signals() -> None:
    """Ignore signals from now on, in a process that has begun: nothing is left to be cancelled.

    Our handler would not do for that: the interpreter's own end takes it away.
    """
    if _process.begun:
        for number in (*ASKING, *OTHERS):
            signal.signal(number, signal.SIG_IGN)


def received(receiver: Receiver) -> AbstractContextManager[None]:
    """Have signals go to a receiver; one that was noted goes to it at once.

    What comes after the outermost of these has ended is ignored, in a process that has begun. On a
    thread that has an `Asker`, what it asks goes to the receiver, on the thread that asks. On any
    other thread but the main one nothing changes.

    Args:
        receiver: Called with the signal's number, in the signal handler.

    Returns:
        A context manager, to be entered at once.
    """
    asker = ASKERS.get(_thread.get_ident())
    if asker is not None:
        return asker.received(receiver, keep=receiver is _note)
    return _received(receiver) if _is_main() else nullcontext()


def _is_main() -> bool:
    """Tell whether this thread may have signal handlers."""
    import threading

    return threading.current_thread() is threading.main_thread()


@contextmanager
def _received(receiver: Receiver) -> Iterator[None]:
    """Make `receiver` the present one of the main thread."""
    before = [(number, signal.signal(number, _handle)) for number in ours()]
    outer, _process.receiver = _process.receiver, receiver
    _process.depth += 1
    try:
        while _process.unheeded and receiver is not _note:
            receiver(_process.unheeded.pop(0))
        yield
    finally:
        _process.depth -= 1
        outermost = _process.depth == 0
        _process.receiver = _ignore if outermost and _process.begun else outer
        for number, handler in before:
            signal.signal(number, handler)
        if outermost:
            _process.unheeded.clear()
            _process.asked &= _process.begun


def _note(number: int) -> None:
    """Keep a signal for the next receiver."""
    _process.unheeded.append(number)


def noted() -> Any:
    """Have signals wait for the next receiver.

    Returns:
        A context manager, see `received`.
    """
    return received(_note)


def leaving(line: str) -> Any:
    """Have a signal end the process at once: no child of it runs, and nobody else's guest.

    Args:
        line: For a person, printed on standard error.

    Returns:
        A context manager, see `received`.
    """
    return received(lambda _number: leave(line, EXIT_CANCELLED))


def in_loop(loop: asyncio.AbstractEventLoop, receiver: Receiver) -> Any:
    """Have signals go to a receiver as a callback of an event loop.

    Args:
        loop: The main thread runs it.
        receiver: Called with the signal's number, on the loop.

    Returns:
        A context manager, see `received`.
    """

    def pass_on(number: int) -> None:
        loop.call_soon_threadsafe(receiver, number)

    return received(pass_on)


@contextmanager
def raising(wake: Callable[[], None] | None = None) -> Iterator[Callable[[], None]]:
    """Have signals raise `KeyboardInterrupt`; leaving raises it where one was lost on its way.

    No other thread can raise in this one: on a thread with an `Asker`, `wake` is called, on the
    thread that asks. It makes what is waited for fail at once, and that is raised as
    `KeyboardInterrupt` here.

    Args:
        wake: See above; None: nothing is waited for that could be woken.

    Yields:
        A function that raises `KeyboardInterrupt` again if a signal has come.

    Raises:
        KeyboardInterrupt: A signal has come.
    """
    seen = False
    asked = _thread.get_ident() in ASKERS

    def interrupt(_number: int) -> None:
        nonlocal seen
        seen = True
        if not asked:
            raise KeyboardInterrupt
        if wake is not None:
            wake()

    def check() -> None:
        if seen:
            raise KeyboardInterrupt

    with received(interrupt):
        try:
            yield check
        except Exception:
            if asked:
                check()
            raise
        check()


@contextmanager
def blocked() -> Iterator[None]:
    """Block signals while a process of ours is started, which then begins with them blocked.

    They are let in when it calls `begin`.

    Yields:
        Nothing.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*ASKING, *OTHERS))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
