"""userfaultfd(2): the kernel reports missing pages and takes them from us, or notes writes.

No package binds it, so this file does: numbers and structures are those of <linux/userfaultfd.h>,
part of the kernel's stable interface. `open_userfault` prefers /dev/userfaultfd (whoever may open
it may serve faults of the kernel too), then the system call restricted to faults of user code,
which needs no privilege. The errors that placing pages can run into, and what they mean:

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
WP_UNPOPULATED: Final = 1 << 13  # features: protect pages that were never touched, too;
WP_ASYNC: Final = 1 << 15  # a write lifts the protection by itself, without a fault of ours
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
    """Compute _IOWR(0xAA, number, layout), or _IOR with `direction` 2."""
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
    """A kernel or a sandbox that gives this process no userfaultfd; the message says why."""


class UserfaultError(PageferryError):
    """A refusal of the kernel to place, register or wake.

    Args:
        what: What was asked of it, for the message.
        number: Its reason, an errno.

    Attributes:
        errno: The kernel's reason.
    """

    def __init__(self, what: str, number: int) -> None:
        meaning = {
            errno.ENOENT: "nothing is mapped and registered there any more",
            errno.ESRCH: "the process is exiting",
        }.get(number, os.strerror(number))
        super().__init__(f"userfaultfd: {what}: {meaning}")
        self.errno = number


@dataclass(frozen=True, slots=True)
class PageFault:
    """A thread that waits for a page.

    Attributes:
        address: Of the page's first byte.
        write: Whether the thread wants to write to it.
    """

    address: int
    write: bool


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of a range of pages.

    Attributes:
        pages: How many this call placed.
        present: How many were there already.
    """

    pages: int
    present: int


class Userfault:
    """One userfaultfd, opened without blocking. Every method may raise `UserfaultError`.

    Args:
        fd: The descriptor; `close` closes it. Where the handshake fails, the caller does.
        how: By which way it was opened, for people.
        features: Bits that the kernel must offer; they are enabled.

    Attributes:
        fd: The descriptor; -1 once it is closed.
        how: By which way it was opened.
        features: Bits that this kernel offers.
    """

    def __init__(self, fd: int, how: str, features: int = 0) -> None:
        self.fd = fd
        self.how = how
        self.features = self._handshake(features)

    def _handshake(self, features: int) -> int:
        """Return what the kernel offers; raise where its version or its features do not do."""
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
        """Make every touch of a missing page a fault of ours from now on.

        Args:
            address: First byte of the range, a multiple of the page size.
            length: Bytes, whole pages. One call per mapping: its cost is that of the mapping's own
                record, whatever the length.

        Raises:
            UserfaultError: The kernel refuses, or can't place, zero or wake there.
        """
        self._register(address, length, _MISSING, _NEEDED)

    def register_writes(self, address: int, length: int) -> None:
        """Allow pages to be write-protected from now on; with `WP_ASYNC` nothing more is needed.

        Args:
            address: First byte of the range, a multiple of the page size.
            length: Bytes, whole pages.

        Raises:
            UserfaultError: The kernel refuses, or can't write-protect there.
        """
        self._register(address, length, _WRITE_PROTECT, _NEEDED_TO_PROTECT)

    def _register(self, address: int, length: int, mode: int, needed: dict[str, int]) -> None:
        answer = bytearray(_REGISTER.pack(address, length, mode, 0))
        self._ioctl(REGISTER_REQUEST, answer, "register")
        granted = _REGISTER.unpack(answer)[3]
        lacking = [name for name, bit in needed.items() if not granted & bit]
        if lacking:
            raise UserfaultError(f"register grants no {', '.join(lacking)}", errno.EOPNOTSUPP)

    def unregister(self, address: int, length: int) -> None:
        """Give a range back: the kernel serves its pages itself, as zeros, and wakes who waits.

        Args:
            address: First byte of the range, a multiple of the page size.
            length: Bytes, whole pages.
        """
        self._ioctl(UNREGISTER_REQUEST, bytearray(_RANGE.pack(address, length)), "unregister")

    def wake(self, address: int, length: int) -> None:
        """Let threads that wait for these pages try again.

        Args:
            address: First byte of the range, a multiple of the page size.
            length: Bytes, whole pages.
        """
        self._ioctl(WAKE_REQUEST, bytearray(_RANGE.pack(address, length)), "wake")

    def copy(self, address: int, source: int, length: int) -> Placed:
        """Place whole pages and wake who waits for them; pages that are there stay as they are.

        Args:
            address: Where to, a multiple of the page size, in a registered range.
            source: Where from: an address of any alignment, readable for `length` bytes.
            length: Bytes, whole pages.

        Returns:
            How many were placed, and how many were there already.

        Raises:
            UserfaultError: The range is no longer registered, or its process is exiting.
        """

        def attempt(at: int) -> tuple[int, int]:
            argument = bytearray(_COPY.pack(address + at, source + at, length - at, 0, 0))
            number = self._attempt(COPY_REQUEST, argument)
            return int(_COPY.unpack(argument)[4]), number

        return self._place("copy", address, length, attempt)

    def zeropage(self, address: int, length: int) -> Placed:
        """Place zero pages and wake who waits for them; pages that are there stay as they are.

        Args:
            address: Where to, a multiple of the page size, in a registered range.
            length: Bytes, whole pages.

        Returns:
            How many were placed, and how many were there already.

        Raises:
            UserfaultError: The range is no longer registered, or its process is exiting.
        """

        def attempt(at: int) -> tuple[int, int]:
            argument = bytearray(_ZEROPAGE.pack(address + at, length - at, 0, 0))
            number = self._attempt(ZEROPAGE_REQUEST, argument)
            return int(_ZEROPAGE.unpack(argument)[3]), number

        return self._place("zeropage", address, length, attempt)

    def _attempt(self, request: int, argument: bytearray) -> int:
        """Make one call; return the error's number, or 0 where it is done."""
        try:
            fcntl.ioctl(self.fd, request, argument)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _place(
        self, what: str, address: int, length: int, attempt: Callable[[int], tuple[int, int]]
    ) -> Placed:
        """Call `attempt` from wherever it has got to, until the whole range is there."""
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
        """Read faults that nobody has read yet, without blocking.

        Args:
            most: How many at most.

        Returns:
            The faults in the order of the kernel's queue; empty where there are none.

        Raises:
            UserfaultError: An event came that nobody asked for.
        """
        try:
            data = os.read(self.fd, most * MESSAGE_BYTES)
        except BlockingIOError:
            return []
        faults = []
        for event, flags, address, _thread in _MESSAGE.iter_unpack(data):
            if event != PAGEFAULT:  # the others come only to who has asked for them
                raise UserfaultError(f"event {event:#x} that nobody asked for", errno.EPROTO)
            faults.append(PageFault(address & -PAGE_SIZE, bool(flags & _WRITE)))
        return faults

    def close(self) -> None:
        """Close the descriptor; idempotent.

        Ranges that are still registered go back to the kernel, and who waits is woken.
        """
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_userfault(features: int = 0) -> Userfault:
    """Open a userfaultfd: by the device, or else by the system call.

    Args:
        features: Bits that it must offer.

    Returns:
        It has to be closed by the caller.

    Raises:
        UserfaultUnavailable: Neither way works; the message gives the reason of each.
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
    """Ask /dev/userfaultfd for a descriptor."""
    device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(device, NEW_REQUEST, os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(device)


def _by_system_call() -> int:
    """Ask the system call for a descriptor of faults in user code."""
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
