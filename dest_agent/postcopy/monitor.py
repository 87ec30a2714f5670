"""What the destination keeps about a guest that runs with pages missing."""

from __future__ import annotations

import socket
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.config.prepage import Prepage
from pageferry.common.errors import RemoteProtocolError
from pageferry.common.guest.machine import Guest
from pageferry.common.report.latency_histogram import bars_of
from pageferry.common.report.page_bins import MOST_COLUMNS, Binning, Bins
from pageferry.common.report.percentiles import Ranks
from pageferry.common.wire import bitmap
from pageferry.common.wire.messages import PostcopySetup
from pageferry.common.wire.results import WireActivity, WireLatency, WirePostcopy
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.dest_agent.postcopy.fault_handler import FaultHandler
from pageferry.dest_agent.postcopy.mechanism import choose_mechanism

_SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
_MOST_SAMPLES: Final = 10_000
_MOST_TRACED: Final = 65_536


class MissingHistory:
    """Missing pages by bin over time, and the faults in between.

    Bounded: when there are too many columns, neighbours are merged, and so are those that come
    later.
    """

    def __init__(self) -> None:
        self._columns: list[tuple[int, Bins, Bins]] = []
        self._stride = 1
        self._looks = 0  # since neighbours were merged last

    def add(self, t_ns: int, missing: Bins, faulted: Bins) -> None:
        """Add a column.

        Args:
            t_ns: Now, CLOCK_MONOTONIC.
            missing: int64[bins], pages that are missing now; kept.
            faulted: int64[bins], faults since the last call; kept.
        """
        if self._looks % self._stride:
            _, _, before = self._columns.pop()
            faulted = before + faulted
        elif len(self._columns) == MOST_COLUMNS:
            pairs = zip(self._columns[::2], self._columns[1::2], strict=True)
            self._columns = [(late[0], late[1], early[2] + late[2]) for early, late in pairs]
            self._stride *= 2
            self._looks = 0
        self._looks += 1
        self._columns.append((t_ns, missing, faulted))

    def wire(self) -> list[WireActivity]:
        """Make what the source is told.

        Returns:
            One activity a column, oldest first.
        """
        return [
            WireActivity(t_ns=t_ns, missing=missing.tolist(), faulted=faulted.tolist())
            for t_ns, missing, faulted in self._columns
        ]


class Postcopy:
    """The fault handler of one session, its urgent connection, and what was counted.

    Made before the downtime, because it compiles and takes memory.

    Args:
        guest: Its missing pages are served; used until `close`.
        setup: What the source wants of post-copy.
        stream: Of the urgent connection.

    Raises:
        UserfaultUnavailable: The mechanism that was asked for does not work here.

    Attributes:
        setup: As given.
        mechanism: By which pages are missing.
        faults: The fault handler.
    """

    def __init__(self, guest: Guest, setup: PostcopySetup, stream: StreamFormat) -> None:
        bitmap.load_codec()
        self.setup = setup
        self.mechanism = choose_mechanism(setup.faults)
        self.faults = FaultHandler(
            guest, self.mechanism, prepage=Prepage.from_wire(setup.prepage), stream=stream
        )
        self._n_pages = guest.n_pages
        self._urgent: socket.socket | None = None
        self._latencies = Ranks()
        self._trace: list[tuple[int, float, int, int]] = []
        self._missing_over_time: list[tuple[int, int]] = []
        self._binning = Binning(guest.n_pages)
        self._columns = MissingHistory()

    @property
    def has_urgent(self) -> bool:
        """Whether the urgent connection stands."""
        return self._urgent is not None

    def attach(self, sock: socket.socket, attempt: int) -> None:
        """Take the urgent connection, and keep it open from now on.

        Args:
            sock: Closed by `hang_up`.
            attempt: Of the connection, for its probes.

        Raises:
            RemoteProtocolError: There is one already.
        """
        if self._urgent is not None:
            raise RemoteProtocolError("there is an urgent connection already")
        self._urgent = sock
        self.faults.connect(sock, attempt)

    def arm(self, missing: bytes, written: NDArray[np.bool_]) -> None:
        """Prepare for a guest that is about to run without these pages.

        Args:
            missing: A bit a page, perhaps shortened: see `bitmap.lengthen`.
            written: bool[n_pages], pages that may be in memory.

        Raises:
            RemoteProtocolError: There is no urgent connection, or the set is not of this guest.
            UserfaultError: The kernel would not discard or register pages.
        """
        if self._urgent is None:
            raise RemoteProtocolError("a switch to post-copy without an urgent connection")
        whole = bitmap.lengthen(missing, self._n_pages)
        self.faults.arm(bitmap.unpack(whole, self._n_pages), written)

    def left_s(self) -> float | None:
        """Estimate how long it takes until nothing is missing, by the average so far.

        Returns:
            Seconds; None if no sample was taken or no page has come yet.
        """
        if not self._missing_over_time:
            return None
        since_ns, first = self._missing_over_time[0]
        missing = self.faults.missing_count
        came, took_s = first - missing, (time.monotonic_ns() - since_ns) / 1e9
        return took_s * missing / came if came > 0 else None

    def disconnect(self) -> None:
        """Let go of the urgent connection and close it; faults are collected meanwhile."""
        self.faults.disconnect()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the urgent connection, which nobody uses any more."""
        if self._urgent is not None:
            self._urgent.close()
            self._urgent = None

    def settle(self) -> None:
        """Place nothing more, so that the counts stay as they are: the guest has stopped.

        The connection stays open, or the source would take it for broken.
        """
        self.faults.settle()

    def sample(self) -> None:
        """Take what the handler has recorded since the last time; several times a second."""
        now, binning = time.monotonic_ns(), self._binning
        if len(self._missing_over_time) < _MOST_SAMPLES:
            self._missing_over_time.append((now, self.faults.missing_count))
        faults = self.faults.take_faults()
        self._columns.add(
            now, binning.add_up(self.faults.missing_pages()), binning.count(faults[:, 2])
        )
        self._latencies.extend(faults[:, 1])
        if self.setup.trace_faults:
            for t_ns, latency_ns, page, vcpu in faults[: _MOST_TRACED - len(self._trace)].tolist():
                self._trace.append((t_ns, latency_ns / 1e3, page, vcpu))

    def result(self) -> WirePostcopy:
        """Take a last sample, and make what the source is told.

        Returns:
            All counts since `arm`, and the pages that are still missing.
        """
        self.sample()
        stats = self.faults.stats()
        values, counts = self._latencies.counts()
        missing = self.faults.missing_pages()
        return WirePostcopy(
            faults=stats.faults,
            zero_fills=stats.zero_fills,
            pages_pulled=stats.pages_pulled,
            pages_pushed=stats.pages_pushed,
            duplicates=stats.duplicates,
            missing=bitmap.pack(missing) if missing.any() else None,
            latency_us=self._percentiles(),
            latencies=bars_of(values, counts),
            missing_over_time=self._missing_over_time,
            trace=self._trace,
            activity=self._columns.wire(),
        )

    def _percentiles(self) -> WireLatency | None:
        """Return percentiles by the nearest rank; None without a fault."""
        if not self._latencies.total:
            return None
        found = self._latencies.at(list(_SHARES.values()))
        us = {name: ns / 1e3 for name, ns in zip(_SHARES, found, strict=True)}
        return WireLatency(**us, within_us=(self._latencies.step - 1) / 1e3)

    def close(self) -> int:
        """Release everything; idempotent. A guest that lacks pages is stopped.

        Returns:
            How many pages are missing for good.
        """
        lost = self.faults.close()
        self.hang_up()
        return lost
