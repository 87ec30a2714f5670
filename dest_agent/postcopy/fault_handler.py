"""Missing pages of a guest that runs: faults, requests, answers, and when it is all there.

Life of a `FaultHandler`, in the order of its methods:

    FaultHandler(guest, …)     before the downtime: takes memory, compiles, starts the handler
    connect(socket, attempt)   the urgent connection; `disconnect` and again `connect` if it breaks
    arm(missing)               the guest does not run yet; from now on these pages fault
    staging()                  for each bulk receiver: where its frames go, and their placing
    missing_count == 0         `event_fd` says so
    disarm()                   the guest at full speed
    close()                    whatever the state

The handler is a compiled thread (`kernel.handler`), which needs no interpreter lock: nothing here
is on the way of a fault.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from pageferry.common.config.prepage import ADAPTIVE, Prepage
from pageferry.common.errors import (
    ConnectionBroken,
    CorruptFrame,
    LocalProtocolError,
    PageferryError,
    RemoteProtocolError,
)
from pageferry.common.guest import control
from pageferry.common.guest.checksum import require_checksum
from pageferry.common.guest.machine import Guest
from pageferry.common.urgent import control as words
from pageferry.common.urgent.compiled_thread import CompiledThread
from pageferry.common.userfault import Userfault, UserfaultError, open_userfault
from pageferry.common.wire.extents import Extents
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.dest_agent.postcopy.kernel import state as a
from pageferry.dest_agent.postcopy.kernel.handler import serve
from pageferry.dest_agent.postcopy.kernel.placement import discard, place
from pageferry.dest_agent.postcopy.mechanism import Mechanism
from pageferry.dest_agent.postcopy.staging import Staging

_START_S: Final = 300.0  # the first start may compile
_ANSWER_S: Final = 10.0  # the handler blocks nowhere but where we can wake it
_PLAINEST: Final = StreamFormat()


@dataclass(frozen=True, slots=True)
class FaultStats:
    """Counts since `arm`.

    faults: threads that had to wait for a page of the source's; zero_fills: those that touched a
    page for the first time that was never missing. pages_pulled, pages_pushed: placed from the
    urgent connection, and by bulk receivers. duplicates: pages that came and were there already.
    untraced: faults that `take_faults` does not have, because nobody took them in time.
    """

    faults: int
    zero_fills: int
    requests: int
    pages_pulled: int
    pages_pushed: int
    duplicates: int
    untraced: int
    received_bytes: int
    sent_bytes: int


class FaultHandler(CompiledThread[a.FaultControl]):
    """The missing pages of one guest, by either mechanism. One controlling thread at a time.

    Args:
        prepage: neighbours that are asked for with each page.
        stream: of the urgent connection.

    Raises:
        UserfaultUnavailable: where the mechanism is the kernel's and does not work.
    """

    thread_name = "faults"
    noun = "the fault handler"
    failures = {  # noqa: RUF012 - nobody writes it
        words.ENDED: lambda _: ConnectionBroken("the source closed the urgent connection"),
        words.BROKEN: lambda number: ConnectionBroken(
            f"the urgent connection broke: {os.strerror(number)}"
        ),
        words.ILLEGAL: lambda _: RemoteProtocolError("an illegal frame on the urgent connection"),
        words.CORRUPT: lambda _: CorruptFrame(
            "a demanded page was changed on its way: wrong checksum"
        ),
        a.UNPLACEABLE: lambda number: UserfaultError("placing a page", number),
        a.UNREAD: lambda _: ConnectionBroken("the source does not read requests for pages"),
    }

    def __init__(
        self,
        guest: Guest,
        mechanism: Mechanism,
        *,
        prepage: Prepage = ADAPTIVE,
        stream: StreamFormat = _PLAINEST,
    ) -> None:
        if stream.checksum:
            require_checksum()
        self.mechanism = mechanism
        self._guest = guest
        # What vCPUs publish is read by the handler, from their own control words.
        self._machines = guest.machines
        self._state: Literal["new", "armed", "disarmed", "closed"] = "new"
        self._socket: socket.socket | None = None
        self._userfault: Userfault | None = None
        self._registered = False
        if mechanism.name == "kernel":
            self._userfault = open_userfault()
        record, memory = words.new_control(a.FAULT_CONTROL)
        super().__init__(cast(a.FaultControl, record))
        self._done_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._fill_in(prepage, stream.checksum)
        self._arrays = self._new_arrays(memory)
        self._ordering = threading.Lock()
        self._handler = self._start()
        try:
            self._warm_up()
        except BaseException:
            self.close()
            raise

    def _fill_in(self, prepage: Prepage, checked: bool) -> None:
        """Write the control words that do not change, and those that are not 0 at first."""
        ctl, guest = self._ctl, self._guest
        ctl.wanted_socket = ctl.socket = -1
        ctl.uffd = self._userfault.fd if self._userfault else -1
        ctl.fault_fd = self._userfault.fd if self._userfault else guest.fault_eventfd
        ctl.done_fd, ctl.memory_at = self._done_fd, guest.memory.address
        ctl.prepage, ctl.checked = prepage.on_wire, checked

    def _new_arrays(self, memory: NDArray[np.int64]) -> a.FaultArrays:
        guest, kernel = self._guest, self._userfault is not None
        vcpus = len(self._machines)
        # All of it is touched now: first touches would be a part of the downtime.
        target = a.PlaceTarget(
            uffd=int(self._ctl.uffd),
            memory_at=int(self._ctl.memory_at),
            event_fd=self.event_fd,
            words=memory,
            status=np.full(guest.n_pages, a.PRESENT, np.uint8),
            presence=np.full(0 if kernel else guest.n_pages, 1, np.uint8),
            vcpus=np.array([m.ctl.ctypes.data for m in self._machines], np.int64),
            pending=np.full(a.PENDING_SLOTS * a.PENDING_WORDS, -1, np.int64),
        )
        return a.FaultArrays(
            ctl=self._ctl,
            target=target,
            status=target.status,
            presence=target.presence,
            vcpus=target.vcpus,
            regions=np.array([guest.n_pages * i // vcpus for i in range(vcpus + 1)], np.int64),
            seen=np.full(vcpus, -1, np.int64),
            streams=np.full(vcpus * a.STREAMS * a.STREAM_WORDS, -1, np.int64),
            oldest=np.zeros(vcpus, np.int64),
            pending=target.pending,
            trace=np.full(a.TRACE_RECORDS * a.TRACE_WORDS, 0, np.int64),
            outbox=np.full(a.OUTBOX_WORDS, 0, np.int64),
            inbox=np.full(a.INBOX_WORDS, 0, np.int64),
            table=np.zeros(a.MAX_EXTENTS, np.int64),
            scratch=a.new_scratch(),
        )

    def _serve(self) -> None:
        serve(self._arrays)

    def _died(self, failure: PageferryError) -> None:
        """Who waits for an answer looks at what became of it, too."""
        os.eventfd_write(self._done_fd, 1)
        super()._died(failure)

    def _warm_up(self) -> None:
        """Compile, and wait until the handler is at work."""
        nothing = np.zeros(0, np.uint8)
        discard(0, nothing, nothing)
        place(self._arrays.target, np.zeros(0, np.int64), 0, a.new_scratch())
        self._use_socket(None, timeout_s=_START_S)
        if self._userfault is None:
            self._guest.set_presence(self._arrays.presence)  # every page is there, so far

    # -- before the guest runs ----------------------------------------------------------------

    def arm(self, missing: NDArray[np.bool_], written: NDArray[np.bool_] | None = None) -> None:
        """These pages (bool[n_pages]) fault from now on; all others hold what they hold.

        The guest must not run. written: bool[n_pages], the pages that may hold something (None: all
        of them): of the missing ones among them, that is stale and is discarded. Pages that are not
        missing and were never written read as zero. Raises `UserfaultError` and `ValueError`.
        """
        self._must_be("arm", "new")
        if missing.shape != (self._guest.n_pages,) or missing.dtype != np.bool_:
            raise ValueError(f"expected missing pages as bool[{self._guest.n_pages}]")
        marks = np.ascontiguousarray(missing).view(np.uint8)
        stale = marks if written is None else np.ascontiguousarray(written).view(np.uint8)
        memory = self._guest.memory
        number = discard(memory.address, marks, stale)
        if number:
            raise UserfaultError("discarding stale pages", number)
        self._arrays.status[:] = marks  # MISSING is 1, PRESENT 0
        count = int(np.count_nonzero(missing))
        self._ctl.missing_count = count
        self._state = "armed"
        self._ctl.armed = 1
        if self._userfault is not None:
            self._userfault.register(memory.address, memory.size)
            self._registered = True
        else:
            np.subtract(1, marks, out=self._arrays.presence)
        if count == 0:
            os.eventfd_write(self.event_fd, 1)

    def _must_be(self, what: str, state: str) -> None:
        if self._state != state:
            raise LocalProtocolError(f"{what}: missing pages are {self._state}, expected {state}")

    # -- the urgent connection ----------------------------------------------------------------

    def connect(self, sock: socket.socket, attempt: int = 0) -> None:
        """Use this connection, which the caller goes on owning, from the beginning of a frame.

        It is probed, and kept open by that; pages that come before `arm` are illegal. Every page
        that a vCPU waits for is asked for, again if need be. What failed is forgotten.
        """
        self._use_socket(sock, attempt)

    @property
    def answered(self) -> bool:
        """Whether the source has answered a probe on this connection; `event_fd` tells of it."""
        return bool(self._ctl.answered)

    def disconnect(self) -> None:
        """The handler lets go of its connection and goes on collecting faults; idempotent.

        When it returns, the caller may close the socket. After the handler's end, nothing to do.
        """
        if self._handler.is_alive():
            self._use_socket(None)

    def settle(self) -> None:
        """What comes from now on is not placed any more; the connection is kept open."""
        with self._ordering:
            self._ctl.settled = 1
            if self._handler.is_alive():
                self._order(_ANSWER_S)

    def _use_socket(
        self, sock: socket.socket | None, attempt: int = 0, timeout_s: float = _ANSWER_S
    ) -> None:
        if self._state in ("disarmed", "closed"):
            raise LocalProtocolError("the fault handler has ended")
        with self._ordering:
            self._ctl.wanted_socket = -1 if sock is None else sock.fileno()
            self._ctl.attempt = attempt
            self._ctl.anew = 1
            self._order(timeout_s)
            self._ctl.anew = 0
            self._socket = sock  # kept from being collected, and its number from being used again

    def _order(self, timeout_s: float) -> None:
        """Have the handler look at what Python has written, and wait until it has."""
        self._ctl.command += 1
        self._wake()
        poll = select.poll()
        poll.register(self._done_fd, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        while self._ctl.applied != self._ctl.command:
            left = deadline - time.monotonic()
            self._handler.raise_failure()
            if left <= 0 or not self._handler.is_alive():
                raise PageferryError("the fault handler does not answer")
            if poll.poll(min(left, 1.0) * 1000):
                os.eventfd_read(self._done_fd)

    # -- bulk ---------------------------------------------------------------------------------

    def staging(self) -> Staging:
        """For one bulk receiver: a `Placer` of buffers of its own. They must end before `close`."""
        return Staging(self.place)

    def place(self, extents: Extents, source: int, scratch: NDArray[np.int64]) -> None:
        """Place pages whose contents lie side by side at the address `source` (0: zeros).

        Pages that are there stay as they are and count as duplicates. From any thread, each with a
        scratch array of its own; without the interpreter lock. Raises `UserfaultError`.
        """
        if self._state == "closed":
            raise LocalProtocolError("pages came after the fault handler had ended")
        number = place(self._arrays.target, np.array(extents).view(np.int64), source, scratch)
        if number:
            raise UserfaultError("placing pages", number)

    # -- looking ------------------------------------------------------------------------------

    @property
    def missing_count(self) -> int:
        """Pages that are still missing; `event_fd` becomes readable when it gets to 0."""
        return int(self._ctl.missing_count)

    def missing_pages(self) -> NDArray[np.bool_]:
        """bool[n_pages], a copy of this moment."""
        return np.not_equal(self._arrays.status, a.PRESENT)

    def stats(self) -> FaultStats:
        """Counts so far."""
        ctl = self._ctl
        return FaultStats(
            faults=int(ctl.faults),
            zero_fills=int(ctl.zero_fills),
            requests=int(ctl.requests),
            pages_pulled=int(ctl.pulled),
            pages_pushed=int(ctl.pushed),
            duplicates=int(ctl.duplicates),
            untraced=int(ctl.untraced),
            received_bytes=int(ctl.received_bytes),
            sent_bytes=int(ctl.sent_bytes),
        )

    def take_faults(self) -> NDArray[np.int64]:
        """int64[n, 4], the faults whose pages have come since the last call, each once:

        when the handler read it (CLOCK_MONOTONIC ns), ns until its page was in its place, page,
        vCPU. Complete after `disarm` or `close`. Take them every so often: the handler keeps 65536.
        """
        head, tail = int(self._ctl.trace_head), int(self._ctl.trace_tail)
        ring = self._arrays.trace.reshape(a.TRACE_RECORDS, a.TRACE_WORDS)
        taken = ring[np.arange(tail, head) % a.TRACE_RECORDS]
        self._ctl.trace_tail = head
        return taken

    # -- the end ------------------------------------------------------------------------------

    def disarm(self) -> None:
        """Everything is there: the guest goes on without us. Raises `LocalProtocolError` if not."""
        self._must_be("disarm", "armed")
        if self.missing_count:
            raise LocalProtocolError(f"disarm: {self.missing_count} pages are still missing")
        self._let_go()
        if self._userfault is None:
            self._guest.set_presence(None)
        self._state = "disarmed"
        self._end_handler()

    def _let_go(self) -> None:
        """Missing pages are the kernel's again; whoever waits for one goes on, with zeros."""
        if self._registered and self._userfault is not None:
            self._registered = False
            memory = self._guest.memory
            self._userfault.unregister(memory.address, memory.size)

    def _end_handler(self) -> None:
        self._ask_to_end()
        self._join(_ANSWER_S)

    def close(self) -> int:
        """Release everything; idempotent and bounded. Returns how many pages are missing for good.

        If there are any, the guest cannot go on: it is stopped first. A vCPU that waits for a page
        in the kernel then ends its quantum on zeros and never begins another one.
        """
        if self._state == "closed":
            return self.missing_count
        lost = self.missing_count if self._state == "armed" else 0
        if lost:
            for machine in self._machines:
                machine.ctl[control.WANT] = control.STOPPED
            self._guest.page_arrived()
        self._let_go()
        if lost:
            self._guest.stop()
        elif self._state != "disarmed" and self._userfault is None:
            self._guest.set_presence(None)
        self._end_handler()
        self._state = "closed"
        if self._userfault is not None:
            self._userfault.close()
        self._close_fds()
        os.close(self._done_fd)
        self._machines, self._socket = (), None
        return lost
