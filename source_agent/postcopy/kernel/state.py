"""What the page server's compiled code works on: arrays, and one record of control words."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pageferry.common.units import PAGE_SIZE
from pageferry.common.urgent.control import control_dtype
from pageferry.common.urgent.kernels import HEADER_WORDS, TRAILER_WORDS, urgent_kernels
from pageferry.common.wire import frames

kernel = urgent_kernels(Path(__file__).parent)


# -- control words: a class for each writer --------------------------------------------------------


class _ByPython:
    stop: int
    socket: int
    wake_fd: int
    event_fd: int  # the connection has ended, or its first probe was answered
    memory_at: int  # address of guest memory
    rate_Bps: int  # of neighbours; 0: no limit
    checked: int  # 1: frames have checksums
    attempt: int  # of the connection
    open: int  # 1: requests are answered; 0: the first one waits, and all behind it


class _ByServer:
    """Begin at 0 with each connection, except for `due_ns`."""

    failure: int  # why it dropped the connection, a code
    failure_errno: int
    filled: int  # bytes in the inbox
    first_window: int  # windows [first_window, last_window) of the ring are to be sent
    last_window: int
    held: int  # 1: a request waits in the inbox
    sent_ns: int  # when something was sent last
    asked: int  # probes that were sent on this connection
    answered: int  # how many of those have been answered
    serving: int  # 1: the thread is in here, and no longer needs the interpreter lock
    due_ns: int  # when neighbours may be sent again


class _Counters:
    """Counts of all connections."""

    focus: int  # the last demanded page, -1: none yet
    demands: int
    crossed: int  # demands of pages that had been pushed already
    pulled_pages: int  # sent from here, neighbours and zero pages included
    zero_pages: int  # of these
    sent_bytes: int
    received_bytes: int


class ServerControl(_ByPython, _ByServer, _Counters):
    """The server's control words, as mypy sees the record."""


SERVER_CONTROL: Final = control_dtype(_ByPython, _ByServer, _Counters)

# -- `sent` bytes: each page travels once ----------------------------------------------------------

UNSENT: Final = 0
PUSHED: Final = 1
PULLED: Final = 2

# Neighbours in a frame: a demanded page may have to wait for that many.
CHUNK: Final = frames.MAX_URGENT_PAGES
WINDOWS: Final = 256  # a ring: when it is full the oldest wish is forgotten
INBOX_WORDS: Final = 512
_FRAME_WORDS: Final = HEADER_WORDS + CHUNK + TRAILER_WORDS  # at most, without pages
HEAD_WORDS: Final = 2 * _FRAME_WORDS + CHUNK * PAGE_SIZE // 8  # with checksums pages are copied
IOV_WORDS: Final = 2 * (2 + CHUNK)

VALUE: Final = 3  # `signal` uses it
POLLFDS: Final = 4
TIMEOUT: Final = 6
MESSAGE: Final = 8  # struct msghdr
SCRATCH_WORDS: Final = 16


class ServerArrays(NamedTuple):
    """Everything that the server works on; it outlives the thread: kernels take its addresses.

    Attributes:
        ctl: The control words.
        sent: uint8[n_pages], shared with the pusher.
        words: uint64[512 * n_pages], guest memory.
        windows: int64[2 * WINDOWS], first page and end of each wish.
        chunk: int64[CHUNK], pages of the next frames.
        inbox: int64[INBOX_WORDS], what has come.
        head: int64[HEAD_WORDS], frames that are built; with checksums their pages, too.
        iov: int64[IOV_WORDS], address and size of what is sent.
        scratch: int64[SCRATCH_WORDS], for system calls.
    """

    ctl: ServerControl
    sent: NDArray[np.uint8]
    words: NDArray[np.uint64]
    windows: NDArray[np.int64]
    chunk: NDArray[np.int64]
    inbox: NDArray[np.int64]
    head: NDArray[np.int64]
    iov: NDArray[np.int64]
    scratch: NDArray[np.int64]
