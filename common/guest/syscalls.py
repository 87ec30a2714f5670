"""System calls for compiled threads that serve page faults and never need the interpreter lock.

Addresses and lengths are int64. A call that fails returns -1, and `errno()` in the same thread says
why. This module is in this package because kernels of both agents are compiled from it: its content
is part of the fingerprint of the compiled code (`jit`).
"""

from __future__ import annotations

import errno as codes
from typing import Any, Final

from numba import types
from numba.core.types import ExternalFunction
from numba.core.typing.templates import signature

from pageferry.common.guest.atomics import peek_int
from pageferry.common.guest.jit import inlined, kernel

_i32: Final = types.int32
_i64: Final = types.int64

POLLIN: Final = 1
POLLOUT: Final = 4
MSG_DONTWAIT: Final = 0x40
MSG_NOSIGNAL: Final = 0x4000
MADV_DONTNEED: Final = 4

EAGAIN: Final = codes.EAGAIN
EEXIST: Final = codes.EEXIST
EINTR: Final = codes.EINTR


def _libc(name: str, *result_and_arguments: Any) -> Any:
    return ExternalFunction(name, signature(*result_and_arguments))  # type: ignore[no-untyped-call]


c_read: Final = _libc("read", _i64, _i32, _i64, _i64)
c_write: Final = _libc("write", _i64, _i32, _i64, _i64)
c_recv: Final = _libc("recv", _i64, _i32, _i64, _i64, _i32)
c_send: Final = _libc("send", _i64, _i32, _i64, _i64, _i32)
c_sendmsg: Final = _libc("sendmsg", _i64, _i32, _i64, _i32)
c_ioctl: Final = _libc("ioctl", _i32, _i32, _i64, _i64)
c_ppoll: Final = _libc("ppoll", _i32, _i64, _i64, _i64, _i64)
c_madvise: Final = _libc("madvise", _i32, _i64, _i64, _i32)
c_memmove: Final = _libc("memmove", _i64, _i64, _i64, _i64)
_errno_location: Final = _libc("__errno_location", _i64)


@kernel
def errno() -> int:
    """Read why the last libc call of this thread failed.

    Returns:
        The error number; only meaningful right after a call that returned -1.
    """
    return peek_int(_errno_location())  # type: ignore[no-any-return]


@inlined
def pollfd(fd: int, events: int) -> int:
    """Pack a `struct pollfd` into one word, whose bits 48 to 63 ppoll writes revents to.

    Args:
        fd: The descriptor; a negative one is not looked at.
        events: `POLLIN`, `POLLOUT` or both.

    Returns:
        The word, with revents 0.
    """
    return (fd & 0xFFFFFFFF) | (events << 32)
