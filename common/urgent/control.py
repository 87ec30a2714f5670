"""Control words: what a compiled thread and Python tell each other, as one record.

A class names the words, in groups of one writer each (`FaultControl`, `ServerControl`); numba sees
the record, mypy the class. Each group starts a cache line of its own, so that two writers do not
take a line from each other. A word is an int64 at an aligned address: stores of it are whole, and
fences and system calls keep them in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.control import aligned

_LINE: Final = 64

# Codes of `failure`. Those that only one end has begin at `FIRST_OWN`.
ENDED: Final = 1  # the peer closed the connection
BROKEN: Final = 2  # the system says why in `failure_errno`
ILLEGAL: Final = 3  # the peer sent something that is not legal here
CORRUPT: Final = 4  # a frame's checksum is wrong
FIRST_OWN: Final = 16


class ThreadControl(Protocol):
    """The words that every compiled thread has."""

    stop: int  # 1: end
    wake_fd: int  # Python calls the thread
    event_fd: int  # the thread calls Python: look at the other words
    failure: int  # why it dropped its connection, a code; 0: it has not
    failure_errno: int  # the system's number that goes with it, or 0


class ConnectionControl(ThreadControl, Protocol):
    """The further words of a thread that serves a connection."""

    socket: int
    attempt: int  # of the connection, for its probes
    checked: int  # 1: frames have checksums, in both directions
    filled: int  # bytes in the inbox
    sent_ns: int  # when something was sent last
    asked: int  # probes that were sent on this connection
    answered: int  # how many of those have been answered
    received_bytes: int
    sent_bytes: int


def control_dtype(*groups: type) -> np.dtype[np.void]:
    """Return the record dtype of these groups' words, each an int64, in their order.

    Args:
        groups: Classes whose annotations name the words; each holds the words of one writer.

    Returns:
        A structured dtype. Its size is a multiple of 64 bytes, and so is the offset of each group's
        first word.

    Raises:
        TypeError: If `np.record` has an attribute of a word's name.
    """
    words = list(_placed(groups))
    size = -(-(words[-1][1] + 8) // _LINE) * _LINE
    names, offsets = [name for name, _ in words], [offset for _, offset in words]
    fields = {"names": names, "formats": [np.int64] * len(words), "offsets": offsets}
    return np.dtype({**fields, "itemsize": size}, align=True)  # type: ignore[call-overload, no-any-return]


def _placed(groups: tuple[type, ...]) -> Iterator[tuple[str, int]]:
    at = 0
    for group in groups:
        at = -(-at // _LINE) * _LINE
        for name in group.__annotations__:
            if hasattr(np.record, name):  # Python would read that, and not the word
                raise TypeError(f"a control word can't be named {name}")
            yield name, at
            at += 8


def word_of(dtype: np.dtype[np.void], name: str) -> int:
    """Return the index of a word in its record: for atomic additions, which go by address.

    Args:
        dtype: As `control_dtype` makes it.
        name: The word, which has to be in there.

    Returns:
        The index, counted in 8-byte words from the record's start.
    """
    assert dtype.fields is not None  # noqa: S101 - it is a record
    return int(dtype.fields[name][1]) // 8


def new_record(dtype: np.dtype[np.void]) -> tuple[Any, NDArray[np.int64]]:
    """Return a zeroed record that shares no 128 bytes with anything else, and its words.

    Args:
        dtype: As `control_dtype` makes it.

    Returns:
        The record, whose attributes are the words, and the same memory as int64[itemsize / 8].
    """
    words = aligned(dtype.itemsize // 8, np.int64).view(np.int64)
    return words.view(dtype).view(np.recarray)[0], words
