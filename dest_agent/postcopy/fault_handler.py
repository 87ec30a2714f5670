"""Missing pages of a running guest: faults, requests, answers, and when everything is there.

Life of a `FaultHandler`, in the order of its methods:

    FaultHandler(guest, …)     before the downtime: takes memory, compiles, starts the handler
    connect(socket, attempt)   the urgent connection; `disconnect` and again `connect` if it breaks
    arm(missing)               the guest does not run yet; from now on these pages fault
    staging()                  for each bulk receiver: where its frames go, and their placing
    missing_count == 0         `event_fd` says so
    disarm()                   the guest at full speed
    close()                    whatever the state

The handler is a compiled thread (`handler_thread` around `kernel.handler`) that needs no
interpreter lock: nothing in this file is in the path of a fault.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from pageferry.common.config.prepage import ADAPTIVE, Prepage
from pageferry.common.errors import LocalProtocolError
from pageferry.common.guest import control
from pageferry.common.guest.checksum import require_checksum
from pageferry.common.guest.machine import Guest
from pageferry.common.urgent import control as words
from pageferry.common.userfault import Userfault, UserfaultError, open_userfault
from pageferry.common.wire.extents import Extents
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.dest_agent.postcopy.handler_thread import HandlerThread
from pageferry.dest_agent.postcopy.kernel import state as a
from pageferry.dest_agent.postcopy.kernel.placement import discard, place_extents
from pageferry.dest_agent.postcopy.mechanism import Mechanism
from pageferry.dest_agent.postcopy.staging import Staging

_START_S: Final = 300.0  # the first start may compile
_PLAINEST: Final = StreamFormat()


@dataclass(frozen=True, slots=True)
class FaultStats:
    """Counts since the handler was made; all but the bytes begin at `arm`.

    Attributes:
        faults: Threads that had to wait for a page of the source's.
        zero_fills: Threads that were the first to touch a page that was never missing.
        requests: Queued for the source, each for one page and its neighbours.
        pages_pulled: Placed from the urgent connection.
        pages_pushed: Placed by bulk receivers.
        duplicates: Pages that came and were there already.
        untraced: Faults that `take_faults` lacks: nobody took them in time, or over 128 waited at
            once.
        received_bytes: On the urgent connections, probes included.
        sent_bytes: Likewise.
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


class FaultHandler(HandlerThread):
    """The missing pages of one guest, by either mechanism; for one controlling thread at a time.

    Args:
        guest: Its memory and control words are used until `close`.
        mechanism: As `choose_mechanism` gave it.
        prepage: Neighbours that are asked for with each page.
        stream: Of the urgent connection; only whether frames have checksums counts.

    Raises:
        UserfaultUnavailable: The mechanism is the kernel's and does not work here.
        UsageError: Compiled code can't make the checksums that the stream has.
    """

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
        # The handler reads which pages vCPUs wait for from their own control words.
        self._machines = guest.machines
        self._state: Literal["new", "armed", "disarmed", "closed"] = "new"
        self._userfault: Userfault | None = None
        self._registered = False
        if mechanism.name == "kernel":
            self._userfault = open_userfault()
        record, memory = words.new_record(a.FAULT_CONTROL)
        super().__init__(cast(a.FaultControl, record))
        self._fill_in(prepage, stream.checksum)
        self._begin(self._new_arrays(memory))
        try:
            self._warm_up()
        except BaseException:
            self.close()
            raise

    def _fill_in(self, prepage: Prepage, checked: bool) -> None:
        """Write the control words that do not change, and those that do not begin at 0."""
        ctl, guest = self._ctl, self._guest
        ctl.uffd = self._userfault.fd if self._userfault else -1
        ctl.fault_fd = self._userfault.fd if self._userfault else guest.fault_eventfd
        ctl.memory_at = guest.memory.address
        ctl.prepage, ctl.checked = prepage.on_wire, checked

    @property
    def _is_over(self) -> bool:
        return self._state in ("disarmed", "closed")

    def _new_arrays(self, memory: NDArray[np.int64]) -> a.FaultArrays:
        guest, kernel = self._guest, self._userfault is not None
        vcpus = len(self._machines)
        # All of it is touched now: later, first touches would be part of the downtime.
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
            scratch=a.new_thread_scratch(),
        )

    def _warm_up(self) -> None:
        """Compile, and wait until the handler is at work."""
        nothing = np.zeros(0, np.uint8)
        discard(0, nothing, nothing)
        place_extents(self._arrays.target, np.zeros(0, np.int64), 0, a.new_thread_scratch())
        self._use_socket(None, timeout_s=_START_S)
        if self._userfault is None:
            self._guest.set_presence(self._arrays.presence)  # so far every page is there

    # -- before the guest runs ----------------------------------------------------------------

    def arm(self, missing: NDArray[np.bool_], written: NDArray[np.bool_] | None = None) -> None:
        """Make these pages fault from now on; all others hold what they hold.

        Pages that are not missing and were never written read as zero. The guest must not run.

        Args:
            missing: bool[n_pages].
            written: bool[n_pages], pages that may hold something; None is all of them. What missing
                pages among them hold is stale and is discarded.

        Raises:
            UserfaultError: The kernel would not discard or register pages.
            ValueError: `missing` is not of this guest.
            LocalProtocolError: They have been armed before.
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

    # -- bulk ---------------------------------------------------------------------------------

    def staging(self) -> Staging:
        """Make a placer for one bulk receiver, with buffers of its own.

        Returns:
            Its receiver must end before `close`.
        """
        return Staging(self.place)

    def place(self, extents: Extents, source: int, scratch: NDArray[np.int64]) -> None:
        """Place pages whose contents lie side by side.

        Pages that are there stay as they are and count as duplicates. Works without the interpreter
        lock, on any thread.

        Args:
            extents: EXTENT[n], checked against the guest.
            source: Address of the first page's contents; 0 for zeros.
            scratch: int64[SCRATCH_WORDS] of the calling thread's own.

        Raises:
            UserfaultError: The kernel would not place a page.
            LocalProtocolError: The handler was closed.
        """
        if self._state == "closed":
            raise LocalProtocolError("pages came after the fault handler had ended")
        number = place_extents(
            self._arrays.target, np.array(extents).view(np.int64), source, scratch
        )
        if number:
            raise UserfaultError("placing pages", number)

    # -- looking ------------------------------------------------------------------------------

    @property
    def missing_count(self) -> int:
        """Pages that are still missing; `event_fd` becomes readable when it reaches 0."""
        return int(self._ctl.missing_count)

    def missing_pages(self) -> NDArray[np.bool_]:
        """Copy which pages are missing at this moment.

        Returns:
            bool[n_pages].
        """
        return np.not_equal(self._arrays.status, a.PRESENT)

    def stats(self) -> FaultStats:
        """Read the counts so far.

        Returns:
            Words that the handler writes meanwhile may be of slightly different moments.
        """
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
        """Take the faults whose pages have come since the last call, each once.

        Complete after `disarm` or `close`. Call it often enough: the handler keeps 65536.

        Returns:
            int64[n, 4]: when the handler read the fault (CLOCK_MONOTONIC ns), ns until its page was
            in place, page, vCPU.
        """
        head, tail = int(self._ctl.trace_head), int(self._ctl.trace_tail)
        ring = self._arrays.trace.reshape(a.TRACE_RECORDS, a.TRACE_WORDS)
        taken = ring[np.arange(tail, head) % a.TRACE_RECORDS]
        self._ctl.trace_tail = head
        return taken

    # -- the end ------------------------------------------------------------------------------

    def disarm(self) -> None:
        """Let the guest run on without us, now that everything is there.

        Raises:
            LocalProtocolError: Pages are missing, or the guest is not armed.
        """
        self._must_be("disarm", "armed")
        if self.missing_count:
            raise LocalProtocolError(f"disarm: {self.missing_count} pages are still missing")
        self._let_go()
        if self._userfault is None:
            self._guest.set_presence(None)
        self._state = "disarmed"
        self._end_handler()

    def _let_go(self) -> None:
        """Give missing pages back to the kernel; whoever waits for one goes on, with zeros."""
        if self._registered and self._userfault is not None:
            self._registered = False
            memory = self._guest.memory
            self._userfault.unregister(memory.address, memory.size)

    def close(self) -> int:
        """Release everything; idempotent and bounded.

        If pages are missing, the guest can't go on: it is stopped first. A vCPU that waits for a
        page in the kernel then ends its quantum on zeros and never begins another one.

        Returns:
            How many pages are missing for good.
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
        self._machines, self._socket = (), None
        return lost
