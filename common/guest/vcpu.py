"""vCPU threads, and how the one controlling thread makes requests to them."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from pageferry.common.errors import InternalError, PageferryError
from pageferry.common.guest import control as c
from pageferry.common.guest.control import VcpuArrays
from pageferry.common.process.threads import WatchedThread

# A request is answered within a quantum. If it takes this long, a vCPU hangs in a page fault that
# nobody serves, or the host has all but stopped.
ANSWER_S: Final = 30.0
START_S: Final = 300.0  # the first start may compile


_started: weakref.WeakSet[Vcpus] = weakref.WeakSet()
_ended_ns: list[int] = [0]  # CPU time of vCPUs that have ended
_accounts = threading.Lock()


def vcpus_cpu_s() -> float:
    """Return the CPU time of all vCPUs that this process has ever had, of whichever guest.

    Returns:
        Seconds.
    """
    with _accounts:
        return (_ended_ns[0] + sum(vcpus.cpu_ns() for vcpus in _started)) / 1e9


class EventFd:
    """A counter that one side adds to and the other polls.

    Attributes:
        fd: The non-blocking eventfd; -1 once closed.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def signal(self) -> None:
        """Wake whoever polls."""
        os.eventfd_write(self.fd, 1)

    def clear(self) -> None:
        """Reset the counter to zero."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)

    def close(self) -> None:
        """Close the descriptor; idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Vcpus:
    """The vCPU threads of a guest. Every method but `start` may be used before the start.

    Args:
        machines: What each vCPU works on, in the order of vCPUs.
        wakes: An eventfd per vCPU that wakes it, of the control word `WAKE_FD`. The guest closes
            them.
        done: The eventfd that all of them signal (`DONE_FD`). The guest closes it.
        kernel: The compiled function that a vCPU's thread runs until it is stopped.
        nice: Added to a vCPU thread's nice value, up to 19; 0: left alone.

    Attributes:
        machines: As given; whoever gives memory back empties it.
        failure: The first failure of a vCPU; None: none has failed.
    """

    def __init__(
        self,
        machines: Sequence[VcpuArrays],
        wakes: Sequence[EventFd],
        done: EventFd,
        kernel: Callable[[VcpuArrays], None],
        nice: int,
    ) -> None:
        self.machines = tuple(machines)
        self._wakes = tuple(wakes)
        self._done = done
        self._kernel = kernel
        self._nice = nice
        self._threads: list[WatchedThread] = []
        self.failure: InternalError | None = None  # of the first vCPU that failed
        self._tell: Callable[[PageferryError], None] | None = None
        self._stopping = False
        self._poll = select.poll()
        self._poll.register(done.fd, select.POLLIN)

    @property
    def started(self) -> bool:
        """Whether there are threads that answer requests."""
        return bool(self._threads)

    def start(self) -> None:
        """Spawn the threads, paused, and return when each has reported.

        Raises:
            PageferryError: A vCPU failed, or did not report in time.
        """
        with _accounts:
            _started.add(self)
        for index in range(len(self.machines)):
            thread = WatchedThread(partial(self._live, index), f"vcpu-{index}", self._failed)
            self._threads.append(thread)
            thread.start()
        self.request({c.WANT: c.PAUSED}, "start", START_S)

    def _live(self, index: int) -> None:
        if self._nice:
            thread = threading.get_native_id()
            now = os.getpriority(os.PRIO_PROCESS, thread)  # going below it needs a privilege
            os.setpriority(os.PRIO_PROCESS, thread, min(now + self._nice, 19))
        self._kernel(self.machines[index])

    def _failed(self, error: PageferryError) -> None:
        """Wake whoever waits for the vCPU, to raise its failure. Runs on the vCPU's thread."""
        if self.failure is None:
            self.failure = InternalError(f"a vCPU failed: {error}")
        self._done.signal()
        if self._tell is not None:
            self._tell(self.failure)

    def watch(self, tell: Callable[[PageferryError], None] | None) -> None:
        """Have a function called when a vCPU fails; at once, if one has failed already.

        Args:
            tell: Called with the failure, on the failed vCPU's thread or, at once, on the caller's;
                None: nobody is told any more.
        """
        self._tell = tell
        if tell is not None and self.failure is not None:
            tell(self.failure)

    def wake(self) -> None:
        """Let every vCPU look at its control words now."""
        for wake in self._wakes:
            wake.signal()

    def request(self, words: dict[int, int], what: str, timeout_s: float = ANSWER_S) -> None:
        """Write control words of every vCPU and wait until each has acted on them.

        Before the start, and after `stop`, they are only written.

        Args:
            words: Control word to value, the same for every vCPU.
            what: The request's name, for an error message.
            timeout_s: How long the answers of all of them may take.

        Raises:
            PageferryError: A vCPU failed or does not answer, or the guest is being stopped.
        """
        for m in self.machines:
            for word, value in words.items():
                m.ctl[word] = value
            m.ctl[c.SEQUENCE] += 1
        if not self._threads:
            return
        self.wake()
        self.wait(
            lambda: all(m.ctl[c.ACKNOWLEDGED] == m.ctl[c.SEQUENCE] for m in self.machines),
            what,
            timeout_s,
        )

    def wait(self, ready: Callable[[], bool], what: str, timeout_s: float = ANSWER_S) -> None:
        """Sleep until a condition holds that vCPUs bring about; they signal when they have.

        Args:
            ready: The condition; checked at first, and after every signal.
            what: What is waited for, for an error message.
            timeout_s: How long that may take.

        Raises:
            PageferryError: A vCPU failed, time ran out, or the guest is being stopped.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self.failure is not None:
                raise self.failure
            if self._stopping:
                raise PageferryError(f"{what}: the guest is being stopped")
            left = deadline - time.monotonic()
            if left <= 0:
                raise PageferryError(f"{what}: a vCPU did not answer within {timeout_s:g} s")
            if self._poll.poll(left * 1000):
                self._done.clear()

    def stop(self) -> None:
        """End the threads; idempotent. A wait for them on another thread fails.

        Raises:
            PageferryError: A thread did not end, as in a page fault that nobody serves.
        """
        self._stopping = True
        if self._threads:
            self._done.signal()
            for m in self.machines:
                m.ctl[c.WANT] = c.STOPPED
            self.wake()
            for thread in self._threads:
                thread.join(ANSWER_S)
                if thread.is_alive():
                    raise PageferryError(f"stop: {thread.name} did not end within {ANSWER_S:g} s")
            self._threads.clear()
            with _accounts:
                _started.discard(self)
                _ended_ns[0] += self.cpu_ns()

    def cpu_ns(self) -> int:
        """Return the CPU time of all vCPU threads, as of the end of each one's last quantum.

        Returns:
            ns.
        """
        return sum(int(m.ctl[c.CPU_NS]) for m in self.machines)
