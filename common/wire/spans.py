"""Stretches of memory as the kernel takes them, and two ways to move them without a copy between.

`Spans.read` fills many small stretches from a socket in one call, so that scattered pages land
where they belong. `PagePipe` sends them: `vmsplice` has the kernel take hold of the pages
themselves, and `splice` hands them to the socket. Nothing is copied at the sender: the peer's read
(on this host) or the network card takes the bytes from there. So what travels is what memory holds
*then*, which may be later than the call: use it for pages whose later writes are sent again anyway,
or that nobody writes. The kernel keeps such a page until it has left, even where the process lets
it go.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.units import PAGE_SIZE

PIPE_BYTES: Final = 2**20  # the most that a user without privileges may have
_SPLICE_F_NONBLOCK: Final = 2
_SPLICE_F_MORE: Final = 4
_F_SETPIPE_SZ: Final = 1031
_F_GETPIPE_SZ: Final = 1032
IOV_MAX: Final = 1024

# uint64[n, 2], C-contiguous: address and bytes of each stretch, which is a `struct iovec` each.
SpanTable = NDArray[np.uint64]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.readv.restype = _libc.vmsplice.restype = ctypes.c_ssize_t


def span_table(memory: int, first: NDArray[np.int64], count: NDArray[np.int64] | int) -> SpanTable:
    """Return the stretches of memory that runs of pages occupy.

    Args:
        memory: Address of page 0.
        first: int64[n], each run's first page.
        count: int64[n], each run's number of pages, or one number for all of them.

    Returns:
        uint64[n, 2], one `struct iovec` for each run.
    """
    table = np.empty((len(first), 2), np.uint64)
    table[:, 0] = first * PAGE_SIZE + memory
    table[:, 1] = count * PAGE_SIZE
    return table


def _call(function: Callable[..., int], fd: int, table: SpanTable, *rest: int) -> int:
    """Make a system call that takes iovecs, without the interpreter lock; raise `OSError`."""
    while True:
        n = function(fd, ctypes.c_void_p(table.ctypes.data), len(table), *rest)
        if n >= 0:
            return n
        error = ctypes.get_errno()
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error))


class Spans:
    """Stretches that are still to be filled, in order; the memory must stay while they are.

    Args:
        table: The stretches; it is copied.
    """

    def __init__(self, table: SpanTable) -> None:
        self._table = table.copy()
        self._ends: NDArray[np.uint64] = np.cumsum(table[:, 1])
        self._first = 0
        self._done = 0

    def read(self, fd: int) -> int:
        """Fill the front with what a socket has, at most `IOV_MAX` stretches a call; see `advance`.

        Args:
            fd: The descriptor of a blocking socket.

        Returns:
            How many bytes came; 0: the peer has ended the connection.

        Raises:
            OSError: If the connection broke.
        """
        return _call(_libc.readv, fd, self._table[self._first : self._first + IOV_MAX])

    def advance(self, n: int) -> None:
        """Move on behind the bytes that have been filled.

        Args:
            n: How many they are, at most what is left.
        """
        self._done += n
        first = int(np.searchsorted(self._ends, self._done, side="right"))
        if first < len(self._table):
            left = int(self._ends[first]) - self._done
            address, size = self._table[first].tolist()
            self._table[first] = address + size - left, left
        self._first = first


class PagePipe:
    """A pipe that takes memory to a socket; for one thread.

    The pipe of a user over their share of the host's pipes holds only two pages; with so few at a
    time both calls cost ten times what the copy does.

    Args:
        page_size: Bytes of a page, which must be the host's.

    Attributes:
        pages: How many whole pages fit in at a time.

    Raises:
        OSError: If this host does not allow the calls, or a pipe of `PIPE_BYTES`.
    """

    def __init__(self, page_size: int) -> None:
        if page_size != mmap.PAGESIZE:  # a pipe counts pieces of those, however small they are
            raise OSError(errno.ENOTSUP, f"a host with pages of {mmap.PAGESIZE} bytes")
        self._out, self._in = os.pipe()
        try:
            fcntl.fcntl(self._in, _F_SETPIPE_SZ, PIPE_BYTES)
            self.pages = fcntl.fcntl(self._in, _F_GETPIPE_SZ) // page_size
            self._try_out()
        except OSError:
            self.close()
            raise

    def _try_out(self) -> None:
        """Try both calls once: a container's profile may refuse either."""
        byte = np.ones(1, np.uint8)
        _call(_libc.vmsplice, self._in, np.array([[byte.ctypes.data, 1]], np.uint64), 0)
        out, into = os.pipe()
        try:
            os.splice(self._out, into, 1)
        finally:
            os.close(out)
            os.close(into)

    def send(self, fd: int, table: SpanTable, *, more: bool) -> None:
        """Send all of these stretches to a socket.

        Args:
            fd: The descriptor of a blocking socket.
            table: Stretches of whole pages, at most `pages` together.
            more: Something follows at once.

        Raises:
            OSError: If that failed; the pipe is of no more use then.
        """
        # Never waits for room: who else would empty the pipe?
        left = _call(_libc.vmsplice, self._in, table, _SPLICE_F_NONBLOCK)
        if left != int(table[:, 1].sum()):
            raise OSError(errno.EIO, "a pipe took less than its size")
        while left:
            sent = os.splice(self._out, fd, left, flags=_SPLICE_F_MORE if more else 0)
            if sent == 0:
                raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
            left -= sent

    def close(self) -> None:
        """Close the pipe and drop what is in it; idempotent."""
        for end in (self._out, self._in):
            with contextlib.suppress(OSError):
                os.close(end)
        self._out = self._in = -1
