"""userfaultfd(2): the kernel tells of missing pages and takes them from us, or notes writes.

No package binds it, so this file does: numbers and structures are those of <linux/userfaultfd.h>,
part of the kernel's stable interface. `open_userfault` prefers /dev/userfaultfd (whoever may open
it may serve faults of the kernel too), then the system call restricted to faults of user code,
which needs no privilege. What placing pages can run into, and what it means:

    EAGAIN   the address space was changing, or only a part was placed: go on behind that part
    EEXIST   the page is there: somebody else placed it; who waits for it is woken all the same
    ENOENT   nothing is mapped and registered there (any more)
    ESRCH    the process that owns the memory is exiting
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pageferry.common.errors import PageferryError, UsageError
from pageferry.common.units import PAGE_SIZE

DEVICE: Final = "/dev/userfaultfd"
_SYSCALL: Final = {"x86_64": 323, "aarch64": 282, "arm64": 282}
_USER_MODE_ONLY: Final = 1
_API_VERSION: Final = 0xAA
_MISSING: Final = 1
_WRITE_PROTECT: Final = 2
WP_UNPOPULATED: Final = 1 << 13  # features: protect what has never been touched, too;
WP_ASYNC: Final = 1 << 15  # a write lifts the protection by itself, and nobody is asked
PAGEFAULT: Final = 0x12
_WRITE: Final = 1

_API = struct.Struct("=QQQ")  # api, features, ioctls
_RANGE = struct.Struct("=QQ")  # start, len
_REGISTER = struct.Struct("=QQQQ")  # range, mode, ioctls
_COPY = struct.Struct("=QQQQq")  # dst, src, len, mode, copy
_ZEROPAGE = struct.Struct("=QQQq")  # range, mode, zeropage
_MESSAGE = struct.Struct("=B7xQQL4x")  # event, flags, address, thread
MESSAGE_BYTES: Final = 32


def _iowr(number: int, layout: struct.Struct, direction: int = 3) -> int:
    """_IOWR(0xAA, number, layout), or _IOR with `direction` 2."""
    return direction << 30 | layout.size << 16 | _API_VERSION << 8 | number


NEW_REQUEST: Final = _API_VERSION << 8  # USERFAULTFD_IOC_NEW, of the device
API_REQUEST: Final = _iowr(0x3F, _API)
REGISTER_REQUEST: Final = _iowr(0, _REGISTER)
UNREGISTER_REQUEST: Final = _iowr(1, _RANGE, 2)
WAKE_REQUEST: Final = _iowr(2, _RANGE, 2)
COPY_REQUEST: Final = _iowr(3, _COPY)
ZEROPAGE_REQUEST: Final = _iowr(4, _ZEROPAGE)

assert (API_REQUEST, REGISTER_REQUEST) == (0xC018AA3F, 0xC020AA00)  # noqa: S101
assert (UNREGISTER_REQUEST, WAKE_REQUEST) == (0x8010AA01, 0x8010AA02)  # noqa: S101
assert (COPY_REQUEST, ZEROPAGE_REQUEST) == (0xC028AA03, 0xC020AA04)  # noqa: S101
assert _MESSAGE.size == MESSAGE_BYTES  # noqa: S101

_NEEDED_TO_PROTECT: Final = {"writeprotect": 1 << 6}
_NEEDED: Final = {"wake": 1 << 2, "copy": 1 << 3, "zeropage": 1 << 4}  # of a registered range


class UserfaultUnavailable(UsageError):
    """This kernel, or what confines this process, gives no userfaultfd. The message says why."""


class UserfaultError(PageferryError):
    """The kernel refused to place, register or wake. errno: its reason."""

    def __init__(self, what: str, number: int) -> None:
        meaning = {
            errno.ENOENT: "nothing is mapped and registered there any more",
            errno.ESRCH: "the process is exiting",
        }.get(number, os.strerror(number))
        super().__init__(f"userfaultfd: {what}: {meaning}")
        self.errno = number


@dataclass(frozen=True, slots=True)
class PageFault:
    """A thread waits for the page at `address` (its first byte). write: it wants to write."""

    address: int
    write: bool


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of a range. pages: placed by this call; present: those that were there."""

    pages: int
    present: int


class Userfault:
    """One userfaultfd, opened without blocking. `how` says by which way it was had.

    features: bits that this kernel offers. Every method raises `UserfaultError`.
    """

    def __init__(self, fd: int, how: str, features: int = 0) -> None:
        self.fd = fd
        self.how = how
        self.features = self._handshake(features)

    def _handshake(self, features: int) -> int:
        """Raises where the kernel speaks another version or lacks one of `features`."""
        answer = bytearray(_API.pack(_API_VERSION, features, 0))
        self._ioctl(API_REQUEST, answer, "the API handshake")
        api, offered, ioctls = _API.unpack(answer)
        if api != _API_VERSION or not ioctls & 1 or features & ~offered:
            raise UserfaultError("the API handshake", errno.EOPNOTSUPP)
        return int(offered)

    def _ioctl(self, request: int, argument: bytearray, what: str) -> None:
        try:
            fcntl.ioctl(self.fd, request, argument)
        except OSError as error:
            raise UserfaultError(what, error.errno or 0) from None

    def register(self, address: int, length: int) -> None:
        """From now on a touch of a page that is not there is a fault of ours. One call a mapping:

        its cost is that of the mapping's own record, whatever its length.
        """
        self._register(address, length, _MISSING, _NEEDED)

    def register_writes(self, address: int, length: int) -> None:
        """From now on pages can be write-protected; with `WP_ASYNC` that is all there is to do."""
        self._register(address, length, _WRITE_PROTECT, _NEEDED_TO_PROTECT)

    def _register(self, address: int, length: int, mode: int, needed: dict[str, int]) -> None:
        answer = bytearray(_REGISTER.pack(address, length, mode, 0))
        self._ioctl(REGISTER_REQUEST, answer, "register")
        granted = _REGISTER.unpack(answer)[3]
        lacking = [name for name, bit in needed.items() if not granted & bit]
        if lacking:
            raise UserfaultError(f"register grants no {', '.join(lacking)}", errno.EOPNOTSUPP)

    def unregister(self, address: int, length: int) -> None:
        """The kernel serves these pages itself again, as zeros; whoever waits is woken."""
        self._ioctl(UNREGISTER_REQUEST, bytearray(_RANGE.pack(address, length)), "unregister")

    def wake(self, address: int, length: int) -> None:
        """Let threads that wait for these pages try again."""
        self._ioctl(WAKE_REQUEST, bytearray(_RANGE.pack(address, length)), "wake")

    def copy(self, address: int, source: int, length: int) -> Placed:
        """Place whole pages from `source` (an address of any alignment) and wake who waits.

        Pages that are there stay as they are.
        """

        def attempt(at: int) -> tuple[int, int]:
            argument = bytearray(_COPY.pack(address + at, source + at, length - at, 0, 0))
            number = self._attempt(COPY_REQUEST, argument)
            return int(_COPY.unpack(argument)[4]), number

        return self._place("copy", address, length, attempt)

    def zeropage(self, address: int, length: int) -> Placed:
        """Place zero pages, likewise."""

        def attempt(at: int) -> tuple[int, int]:
            argument = bytearray(_ZEROPAGE.pack(address + at, length - at, 0, 0))
            number = self._attempt(ZEROPAGE_REQUEST, argument)
            return int(_ZEROPAGE.unpack(argument)[3]), number

        return self._place("zeropage", address, length, attempt)

    def _attempt(self, request: int, argument: bytearray) -> int:
        """The error's number; 0: done."""
        try:
            fcntl.ioctl(self.fd, request, argument)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _place(
        self, what: str, address: int, length: int, attempt: Callable[[int], tuple[int, int]]
    ) -> Placed:
        at = present = 0
        while at < length:
            done, number = attempt(at)
            if number == 0:
                at = length
            elif done > 0:  # EAGAIN with a part of it done
                at += done
            elif number == errno.EEXIST:
                self.wake(address + at, PAGE_SIZE)
                present += 1
                at += PAGE_SIZE
            elif number != errno.EAGAIN:
                raise UserfaultError(what, number)
        return Placed(length // PAGE_SIZE - present, present)

    def read_faults(self, most: int = 16) -> list[PageFault]:
        """Faults that nobody has read yet; none: an empty list. Never blocks."""
        try:
            data = os.read(self.fd, most * MESSAGE_BYTES)
        except BlockingIOError:
            return []
        faults = []
        for event, flags, address, _thread in _MESSAGE.iter_unpack(data):
            if event != PAGEFAULT:  # the others exist only for who asked for them
                raise UserfaultError(f"event {event:#x} that nobody asked for", errno.EPROTO)
            faults.append(PageFault(address & -PAGE_SIZE, bool(flags & _WRITE)))
        return faults

    def close(self) -> None:
        """Idempotent. Ranges that are still registered are the kernel's again, waiters woken."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_userfault(features: int = 0) -> Userfault:
    """By the device, else by the system call. Raises `UserfaultUnavailable`.

    features: bits that it must offer.
    """
    reasons = []
    for how, way in _WAYS.items():
        fd = -1
        try:
            fd = way()
            return Userfault(fd, how, features)
        except OSError as error:
            reasons.append(f"{how}: {os.strerror(error.errno or 0)}")
        except UserfaultError as error:
            os.close(fd)
            reasons.append(f"{how}: {error}")
    raise UserfaultUnavailable(f"no userfaultfd here ({'; '.join(reasons)})")


def _by_device() -> int:
    device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(device, NEW_REQUEST, os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(device)


def _by_system_call() -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, "unknown machine")
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    return fd


_WAYS: Final[dict[str, Callable[[], int]]] = {
    DEVICE: _by_device,
    "system call, user mode only": _by_system_call,
}
