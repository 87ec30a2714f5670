"""Compiled code for frames that both ends of an urgent connection share.

A header's layout is defined in `common.wire.header`, whose functions are compiled here for both.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.checksum import xxh3_64
from pageferry.common.guest.jit import inlined
from pageferry.common.guest.kernels import kernels_of
from pageferry.common.guest.native import fence, signal, signed
from pageferry.common.guest.syscalls import EAGAIN, EINTR, MSG_DONTWAIT, c_recv, errno
from pageferry.common.urgent.control import ConnectionControl, ThreadControl
from pageferry.common.wire import frames, header, probes

_F = TypeVar("_F", bound=Callable[..., Any])

_HERE: Final = Path(__file__).parent
_LAYOUT: Final = tuple(Path(str(module.__file__)) for module in (frames, header, probes))

kernel = kernels_of(_HERE, *_LAYOUT)

HEADER_WORDS: Final = 2
TRAILER_WORDS: Final = 1
CHECKED: Final = header.CHECKED
IDLE_NS: Final = int(probes.IDLE_S * 1e9)
NUMBER: Final = probes.MAX_NUMBER

first_word = inlined(header.first_word)
kind_of = inlined(header.kind_of)
flags_of = inlined(header.flags_of)
entries_of = inlined(header.entries_of)
value_of = inlined(header.value_of)
extent_word = inlined(header.extent_word)
first_of = inlined(header.first_of)
count_of = inlined(header.count_of)


def urgent_kernels(package: Path) -> Callable[[_F], _F]:
    """Return a `jit.kernel` for the files of a folder that call the code in here.

    An edit of this folder, or of the modules with the frames' layout, has them compiled anew.

    Args:
        package: The caller's folder; an edit of any of its Python files counts, too.

    Returns:
        The decorator for that folder's kernels.
    """
    return kernels_of(package, *sorted(_HERE.glob("*.py")), *_LAYOUT)


@kernel
def seal(words: NDArray[np.int64], first: int, end: int) -> int:
    """Append the trailer, the XXH3-64 checksum, to a frame.

    Args:
        words: int64[n], where the frame is; `words[end]` is overwritten.
        first: Index of the frame's first word.
        end: Index behind its last one.

    Returns:
        Index behind the trailer.
    """
    # SAFETY: `words` is the caller's array, and [first, end] lies in it.
    words[end] = signed(xxh3_64(words.ctypes.data + 8 * first, 8 * (end - first)))
    return end + TRAILER_WORDS


@kernel
def is_sealed(words: NDArray[np.int64], first: int, end: int) -> bool:
    """Return whether a frame's trailer holds its checksum.

    Args:
        words: int64[n], where the frame is.
        first: Index of the frame's first word.
        end: Index of its trailer, behind the words that it covers.

    Returns:
        False: the frame was changed on its way.
    """
    # SAFETY: `words` is the caller's array, and [first, end] lies in it.
    return bool(signed(xxh3_64(words.ctypes.data + 8 * first, 8 * (end - first))) == words[end])


@kernel
def put_bodyless(
    words: NDArray[np.int64], at: int, kind: int, checked: int, entries: int, value: int
) -> int:
    """Write a whole frame without a body.

    Args:
        words: int64[n], into which it is written; has room for header and trailer.
        at: Index of the frame's first word.
        kind: A `FrameType`.
        checked: Not 0: the frame gets a trailer.
        entries: For the header's field of that name.
        value: Likewise.

    Returns:
        Index behind the frame.
    """
    words[at] = first_word(kind, CHECKED if checked != 0 else 0, entries, value)
    words[at + 1] = 0
    end = at + HEADER_WORDS
    return seal(words, at, end) if checked != 0 else signed(end)


@kernel
def report_failure(ctl: ThreadControl, scratch: NDArray[np.int64], code: int, number: int) -> None:
    """Tell Python that the connection is over.

    Args:
        ctl: Its `failure` and `failure_errno` are set, and its `event_fd` is signalled.
        scratch: The calling thread's int64 array for system calls.
        code: What has happened, a code of `failure`.
        number: The system's error number, or 0.
    """
    ctl.failure_errno = number
    fence()
    ctl.failure = code
    signal(scratch, ctl.event_fd)


@kernel
def take_answer(ctl: ConnectionControl, scratch: NDArray[np.int64], number: int) -> bool:
    """Count the answer to a probe; the first one of a connection is signalled on `event_fd`.

    Args:
        ctl: Its `answered` is counted up.
        scratch: The calling thread's int64 array for system calls.
        number: The number that the answer repeats.

    Returns:
        False: no such answer was due, and nothing has changed.
    """
    if ctl.answered == ctl.asked or number != (ctl.answered + 1) & NUMBER:
        return False
    ctl.answered += 1
    if ctl.answered == 1:
        signal(scratch, ctl.event_fd)
    return True


@kernel
def receive_once(ctl: ConnectionControl, inbox: NDArray[np.int64]) -> tuple[int, int]:
    """Append what the socket has to the inbox, without waiting.

    Args:
        ctl: Its `filled` and `received_bytes` are counted up.
        inbox: int64[n], with room behind the first `filled` bytes.

    Returns:
        (bytes, 0); (0, 0) if the peer has ended the connection; (-1, errno) if it is broken, and
        (-1, 0) if there is nothing yet.
    """
    # SAFETY: `filled` never exceeds the inbox, which outlives the thread.
    n = c_recv(
        ctl.socket, inbox.ctypes.data + ctl.filled, 8 * len(inbox) - ctl.filled, MSG_DONTWAIT
    )
    if n < 0:
        number = errno()
        return signed(-1), signed(0 if number in (EAGAIN, EINTR) else number)
    ctl.filled += n
    ctl.received_bytes += n
    return signed(n), signed(0)
