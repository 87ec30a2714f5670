"""The binding of userfaultfd, against the kernel itself."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from pageferry.common import userfault
from pageferry.common.errors import UsageError
from pageferry.common.units import PAGE_SIZE
from pageferry.common.userfault import (
    PageFault,
    Placed,
    Userfault,
    UserfaultError,
    UserfaultUnavailable,
    open_userfault,
)
from pageferry.dest_agent.postcopy import mechanism
from pageferry.dest_agent.postcopy.mechanism import Mechanism, choose_mechanism
from tests.support.child_process import drop_privileges, in_child
from tests.support.postcopy_pair import Post, until
from tests.unit.dest_agent.postcopy.test_faults_kernel import UNAVAILABLE

available = pytest.mark.skipif(bool(UNAVAILABLE), reason=UNAVAILABLE or "available")
PAGES = 8
SIZE = PAGES * PAGE_SIZE


def new_memory() -> NDArray[np.uint8]:
    mapping = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(mapping, np.uint8)


@pytest.fixture
def memory() -> NDArray[np.uint8]:
    return new_memory()


@pytest.fixture
def fault() -> Iterator[Userfault]:
    fault = open_userfault()
    yield fault
    fault.close()
    fault.close()


def content() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(1, 255, SIZE + 3, np.uint8)


@available
class TestPlacing:
    def test_a_fault_is_told_and_served(self, fault: Userfault, memory: NDArray[np.uint8]) -> None:
        address = memory.ctypes.data
        fault.register(address, SIZE)
        assert fault.read_faults() == []
        got = ctypes.create_string_buffer(4)
        # ctypes.memmove gives the interpreter lock up: these threads may wait in the kernel.
        threads = [
            threading.Thread(target=ctypes.memmove, args=(got, address + 2 * PAGE_SIZE + 5, 4)),
            threading.Thread(target=ctypes.memmove, args=(address + 6 * PAGE_SIZE + 9, b"abc", 3)),
        ]
        told = []
        for thread in threads:
            thread.start()
            poll = select.poll()
            poll.register(fault.fd, select.POLLIN)
            assert poll.poll(5000)
            told += fault.read_faults()
        assert told == [
            PageFault(address + 2 * PAGE_SIZE, write=False),
            PageFault(address + 6 * PAGE_SIZE, write=True),
        ]
        fault.wake(address, SIZE)  # they try again, and wait again
        data = content()
        assert fault.copy(address + 2 * PAGE_SIZE, data.ctypes.data + 3, PAGE_SIZE) == Placed(1, 0)
        assert fault.zeropage(address + 6 * PAGE_SIZE, PAGE_SIZE) == Placed(1, 0)
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
        assert got.raw == data[8:12].tobytes()
        assert memory[6 * PAGE_SIZE : 7 * PAGE_SIZE].tobytes().strip(b"\0") == b"abc"
        fault.unregister(address, SIZE)

    def test_pages_that_are_there_stay(self, fault: Userfault, memory: NDArray[np.uint8]) -> None:
        address, data = memory.ctypes.data, content()
        memory[3 * PAGE_SIZE : 4 * PAGE_SIZE] = 7
        memory[5 * PAGE_SIZE : 6 * PAGE_SIZE] = 8
        fault.register(address, SIZE)
        assert fault.copy(address, data.ctypes.data, 6 * PAGE_SIZE) == Placed(4, 2)
        assert fault.zeropage(address + 4 * PAGE_SIZE, 4 * PAGE_SIZE) == Placed(2, 2)
        expected = data[:SIZE].copy()
        expected[3 * PAGE_SIZE : 4 * PAGE_SIZE] = 7
        expected[5 * PAGE_SIZE : 6 * PAGE_SIZE] = 8
        expected[6 * PAGE_SIZE :] = 0
        np.testing.assert_array_equal(memory, expected)

    def test_unregistering_lets_waiters_go_on_with_zeros(
        self, fault: Userfault, memory: NDArray[np.uint8]
    ) -> None:
        fault.register(memory.ctypes.data, SIZE)
        got = ctypes.create_string_buffer(b"xxxx")
        thread = threading.Thread(target=ctypes.memmove, args=(got, memory.ctypes.data, 4))
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        fault.unregister(memory.ctypes.data, SIZE)
        thread.join(5)
        assert not thread.is_alive()
        assert got.raw[:4] == b"\0\0\0\0"

    def test_a_part_that_was_placed_is_not_placed_again(
        self, fault: Userfault, memory: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """EAGAIN: the kernel says how far it got (0: the address space was changing)."""
        address, data = memory.ctypes.data, content()
        fault.register(address, SIZE)
        real: Callable[[int, int, bytearray], int] = fcntl.ioctl
        calls: list[tuple[int, int]] = []

        def ioctl(fd: int, request: int, argument: bytearray) -> int:
            if request != userfault.COPY_REQUEST:
                return real(fd, request, argument)
            at, source, length = struct.unpack_from("=QQQ", argument)
            calls.append((at - address, length))
            if len(calls) == 1:
                struct.pack_into("=q", argument, 32, -errno.EAGAIN)
                raise OSError(errno.EAGAIN, "changing")
            if len(calls) == 2:
                part = bytearray(struct.pack("=QQQQq", at, source, 3 * PAGE_SIZE, 0, 0))
                real(fd, request, part)
                argument[32:] = part[32:]
                raise OSError(errno.EAGAIN, "partial")
            return real(fd, request, argument)

        monkeypatch.setattr(fcntl, "ioctl", ioctl)
        assert fault.copy(address, data.ctypes.data, SIZE) == Placed(PAGES, 0)
        assert calls == [(0, SIZE), (0, SIZE), (3 * PAGE_SIZE, 5 * PAGE_SIZE)]
        np.testing.assert_array_equal(memory, data[:SIZE])

    def test_nothing_registered_there(self, fault: Userfault, memory: NDArray[np.uint8]) -> None:
        with pytest.raises(UserfaultError, match="registered there any more") as caught:
            fault.zeropage(memory.ctypes.data, PAGE_SIZE)
        assert caught.value.errno == errno.ENOENT

    def test_the_process_is_gone(self, memory: NDArray[np.uint8]) -> None:
        here, there = socket.socketpair()
        address = memory.ctypes.data

        def leave() -> None:
            fault = open_userfault()
            fault.register(address, SIZE)
            socket.send_fds(there, [b"x"], [fault.fd])

        with here, there:
            in_child(leave)
            fds = socket.recv_fds(here, 1, 1)[1]
        theirs = Userfault.__new__(Userfault)
        theirs.fd = fds[0]
        try:
            with pytest.raises(UserfaultError, match="the process is exiting") as caught:
                theirs.zeropage(address, PAGE_SIZE)
            assert caught.value.errno == errno.ESRCH
            with pytest.raises(UserfaultError, match="the process is exiting"):
                theirs.copy(address, content().ctypes.data, PAGE_SIZE)
        finally:
            theirs.close()

    def test_an_unknown_feature_is_refused(self) -> None:
        fd = userfault._by_device() if os.getuid() == 0 else userfault._by_system_call()
        try:
            with pytest.raises(UserfaultError, match="the API handshake"):
                Userfault(fd, "test", features=1 << 63)
        finally:
            os.close(fd)

    def test_bad_ranges_are_refused(self, fault: Userfault, memory: NDArray[np.uint8]) -> None:
        for call in (fault.register, fault.unregister, fault.wake):
            with pytest.raises(UserfaultError):
                call(memory.ctypes.data + 1, PAGE_SIZE)


# From <linux/seccomp.h> and <linux/filter.h>: refuse one system call with EPERM, allow the rest.
def refuse_system_call(number: int) -> None:
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),
            (0x15, 0, 1, number),
            (0x06, 0, 0, 0x00050000 | errno.EPERM),
            (0x06, 0, 0, 0x7FFF0000),
        )
    )
    code = ctypes.create_string_buffer(program)
    head = struct.pack("=H6xQ", 4, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.create_string_buffer(head), 0, 0) == 0, ctypes.get_errno()


class TestChoice:
    @available
    def test_the_kernels_where_it_works(self) -> None:
        auto = choose_mechanism("auto")
        assert auto.name == "kernel"
        assert auto.reason in userfault._WAYS
        assert choose_mechanism("kernel") == auto

    def test_software_when_asked_for(self) -> None:
        assert choose_mechanism("software") == Mechanism("software", "asked for")

    @pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
    def test_a_filter_refuses_the_system_call(self) -> None:
        def confined() -> None:
            drop_privileges()
            refuse_system_call(userfault._SYSCALL[os.uname().machine])
            mechanism = choose_mechanism("auto")
            assert mechanism.name == "software"
            assert "/dev/userfaultfd: Permission denied" in mechanism.reason
            assert "user mode only: Operation not permitted" in mechanism.reason
            with pytest.raises(UserfaultUnavailable, match="no userfaultfd here"):
                choose_mechanism("kernel")
            with Post(mechanism, workload="uniform:scatter=true") as post:
                post.arm()
                post.serve()
                post.dest.resume()
                until(lambda: post.faults.stats().faults > 10)
                post.push()
                post.finish()

        with Post(Mechanism("software", "test"), workload="uniform:scatter=true"):
            pass  # compiled before the fork
        in_child(confined)

    def test_it_can_be_had_but_does_not_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Odd:
            how = "a way"

            def register(self, *_: object) -> None:
                raise UserfaultError("register", errno.EINVAL)

            def close(self) -> None:
                pass

        monkeypatch.setattr(mechanism, "open_userfault", Odd)
        chosen = choose_mechanism("auto")
        assert chosen == Mechanism("software", "userfaultfd: register: Invalid argument (a way)")
        with pytest.raises(UsageError):
            choose_mechanism("kernel")

    def test_it_places_pages_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Odd:
            how = "a way"

            def register(self, *_: object) -> None: ...
            def unregister(self, *_: object) -> None: ...
            def close(self) -> None: ...

            def copy(self, *_: object) -> Placed:
                return Placed(1, 0)

            def zeropage(self, *_: object) -> Placed:
                return Placed(1, 1)

        monkeypatch.setattr(mechanism, "open_userfault", Odd)
        wrong = "userfaultfd does not place pages as it says"
        assert choose_mechanism("auto") == Mechanism("software", wrong)
        with pytest.raises(UsageError, match=wrong):
            choose_mechanism("kernel")
