"""Carrying decisions out: which pages a round sends, and what is measured of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import PageferryError
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.stale import CACHE, IN_CACHE, MEMORY, UNION
from pageferry.common.inject import no_fault
from pageferry.common.report.sections.rounds import PartName
from pageferry.common.strategy.base import NextRound, Part, RoundKind, RoundStats
from pageferry.common.strategy.carrying import Carrying
from pageferry.common.timeline import Timeline
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.precopy.activity import Activity
from pageferry.source_agent.precopy.batches import RoundPages, SentTotals, uncompressed_bytes
from pageferry.source_agent.precopy.compressing_encoder import CompressingEncoder
from pageferry.source_agent.precopy.cost_estimate import TransferCost
from pageferry.source_agent.precopy.page_sender import PageSender
from pageferry.source_agent.precopy.stale_pages import StalePages
from pageferry.source_agent.precopy.throttling import Throttling, Watcher

# What a stop costs whatever is left: pausing within a quantum, the snapshot, the resume.
SWITCHOVER_S: Final = 0.002
_PLAINEST: Final = StreamFormat()
DRAIN_LINE_S: Final = 100e-9  # a scattered 64-byte write-back, until a drain has been measured
_MEASURABLE_LINES: Final = 4096
DECIDE_S: Final = 0.001  # from a round's end to the next one's beginning, or the stop's
# The masks of all pages are looked through once when a round ends, and once when one begins.
SCAN_PAGE_S: Final = 1.3e-9


@dataclass(slots=True)
class Round:
    """One round as it was. Times are CLOCK_MONOTONIC ns; end_ns: the destination's word of it.

    sending_ns: when its pages had been collected.
    throttle: the most that the guest was throttled in it. raw_after: what the pages that are stale
    at its end cost without compression and deltas.
    """

    index: int
    kind: RoundKind
    start_ns: int
    drained_lines: int = 0
    totals: SentTotals = field(default_factory=SentTotals)
    sending_ns: int = 0
    end_ns: int = 0
    dirty_pages_after: int = 0
    pages_left: int = 0  # unsent, where it was cut short
    throttle: float = 0.0
    raw_after: int = 0


@dataclass(slots=True)
class Downtime:
    """The downtime in parts, as they end. Times are CLOCK_MONOTONIC ns of this host.

    Attributes:
        paused_ns: When the first vCPU stopped.
        ends: Each part's name and end, in order.
    """

    paused_ns: int
    ends: list[tuple[PartName, int]] = field(default_factory=list)

    def ended(self, part: PartName, t_ns: int) -> None:
        """Note that a part of it is over."""
        self.ends.append((part, t_ns))


@dataclass(frozen=True, slots=True)
class StopResult:
    """The guest has stopped, and what a commit needs is known.

    round: the last one, with all that was left; None in post-copy, where `missing` (a bit a page)
    is what the destination has not, or not as it is now.
    """

    round: Round | None
    downtime: Downtime
    snapshot: dict[str, Any]
    missing: bytes | None = None


class Rounds:
    """The guest's stale pages, and the rounds that send them.

    A page is stale when the destination has not its latest content. All methods but the properties
    block, and run on one worker thread at a time.
    """

    def __init__(
        self,
        guest: Guest,
        page_sender: PageSender,
        timeline: Timeline,
        rate_Bps: float,
        rtt_s: float,
        *,
        stream: StreamFormat = _PLAINEST,
        hit: Callable[[str], None] = no_fault,
        encoder: CompressingEncoder | None = None,
    ) -> None:
        self._encoder = encoder
        self.transfer_cost = TransferCost()
        self._guest = guest
        self._page_sender = page_sender
        self._timeline = timeline
        self._hit = hit
        self._carrying = Carrying(rate_Bps, rtt_s)
        self._rtt_s = rtt_s
        self._drain_line_s = DRAIN_LINE_S
        self.activity = Activity(guest.n_pages)
        self._stale = StalePages(guest, self.activity, by_line=stream.by_line)
        self.throttling = Throttling(guest, page_sender, timeline, self._stale.masks)
        self._sending = RoundPages(np.arange(0))
        self.done: list[Round] = []
        self.unfinished = SentTotals()  # of the round that is under way, or failed
        self.pages_resent = 0
        self.round_start_bytes = 0
        self.round_expected = 0

    def send(self, order: NextRound, watcher: Watcher | None = None) -> Round:
        """Hold, drain, collect and send as the strategy ordered; not yet acknowledged.

        watcher: is told what the guest dirties meanwhile, and may throttle it.
        """
        guest = self._guest
        this = Round(len(self.done) + 1, order.kind, time.monotonic_ns())
        self._timeline.log("round-start", t_ns=this.start_ns, round=this.index, kind=order.kind)
        self.throttling.begin(order.throttle)
        guest.hold(order.hold)
        if order.drain:
            this.drained_lines = self._drain()
        self._stale.harvest()
        look = None if watcher is None else self.throttling.watch(watcher)
        self._send(this, everything=order.kind is RoundKind.FULL, look=look)
        this.throttle = self.throttling.share
        return this

    def _drain(self) -> int:
        """How many lines; what a stop's drain will take is known by it."""
        begun = time.monotonic()
        lines = self._guest.drain()
        if lines >= _MEASURABLE_LINES:  # what waits for vCPUs to come by is no part of a stop's
            self._drain_line_s = min((time.monotonic() - begun) / lines, DRAIN_LINE_S)
        return lines

    def _send(
        self, this: Round, *, everything: bool, look: Callable[[bool], None] | None = None
    ) -> None:
        """The stale pages, or all.

        Clean before they are sent: what is written from here on is in the log, and goes again.
        """
        cpu_s = 0.0
        if self._encoder is not None:
            # Of all pages those are likely to go again that the guest wrote before it was sent.
            likely = self._stale.masks != 0 if everything else None
            self._encoder.begin(this.index, likely, last=this.kind is RoundKind.FINAL)
            cpu_s = self._encoder.cpu_s
        pages = self._stale.take_all() if everything else self._stale.take()
        this.sending_ns = time.monotonic_ns()
        self.round_start_bytes = self._page_sender.sent_bytes
        lines = int(np.bitwise_count(pages.masks).sum())
        raw = uncompressed_bytes(len(pages.whole), len(pages.lined), lines)
        started = time.monotonic()
        self.round_expected = self.transfer_cost.wire_bytes(raw)
        sent = self._stale.ever_sent
        fresh = pages.whole[~sent[pages.whole]]
        sent[fresh] = True  # for looks meanwhile
        try:
            this.totals, left = self._page_sender.send_round(pages, this.index, look)
        except PageferryError:
            self.unfinished = self._page_sender.moved
            raise
        self.unfinished = this.totals
        this.pages_left = len(left.whole) + len(left.lined)
        if this.pages_left:
            pages = self._stale.put_back(pages, left)
            fresh, unsent = (
                np.intersect1d(fresh, pages.whole),
                np.intersect1d(fresh, left.whole),
            )
            sent[unsent] = False
        self._sending = pages
        self.pages_resent += len(pages.whole) - len(fresh) + len(pages.lined)
        if self._encoder is not None and not everything and not this.pages_left:
            seconds, cpu_s = time.monotonic() - started, self._encoder.cpu_s - cpu_s
            self.transfer_cost.update(raw, this.totals.bytes, seconds, cpu_s)
            self.throttling.ratio = self.transfer_cost.ratio

    def acknowledged(self, this: Round, elapsed_s: float) -> RoundStats:
        """The destination has it all: look at what has become stale meanwhile."""
        this.end_ns = time.monotonic_ns()
        self.done.append(this)
        self.unfinished = SentTotals()
        counts = self._stale.count()
        dirty_pages, raw = cost_of(counts, UNION)
        this.dirty_pages_after = dirty_pages
        totals = this.totals
        self.activity.round_done(this.start_ns, this.end_ns, this.kind.value, self._sending)
        duration_s = (this.end_ns - this.start_ns) / 1e9
        self._carrying.told(totals.bytes, (this.end_ns - this.sending_ns) / 1e9)
        self._timeline.log(
            "round-end",
            t_ns=this.end_ns,
            round=this.index,
            pages=totals.pages,
            zero_pages=totals.zero_pages,
            lines=totals.lines,
            bytes=totals.bytes,
            dirty_pages_after=dirty_pages,
        )
        this.raw_after = raw
        remaining = self.transfer_cost.wire_bytes(raw)
        rate_Bps = self._carrying.rate_Bps
        return RoundStats(
            index=this.index,
            kind=this.kind,
            pages_total=self._guest.n_pages,
            pages_sent=totals.pages + totals.zero_pages,
            bytes_sent=totals.bytes,
            duration_s=duration_s,
            dirty_pages_after=dirty_pages,
            remaining_bytes=remaining,
            dirty_rate_Bps=max(dirty_pages - this.pages_left, 0) * PAGE_SIZE / duration_s,
            bandwidth_Bps=rate_Bps,
            sending_s=self._carrying.seconds(remaining),
            switchover_s=self._switchover_s(int(counts[IN_CACHE]))
            + self.transfer_cost.extra_encode_s(raw, rate_Bps),
            elapsed_s=elapsed_s,
            in_memory=self._part(counts, MEMORY),
            in_cache=self._part(counts, CACHE),
            throttle=self.throttling.average(this.start_ns, this.end_ns),
            compression_ratio=self.transfer_cost.ratio,
            decide_s=DECIDE_S + self._scan_s,
        )

    @property
    def _scan_s(self) -> float:
        return self._guest.n_pages * SCAN_PAGE_S

    def _switchover_s(self, cached_lines: int) -> float:
        """Of a stop, beyond its pages: what comes last travels one way."""
        return SWITCHOVER_S + self._scan_s + self._rtt_s / 2 + cached_lines * self._drain_line_s

    def _part(self, counts: NDArray[np.int64], part: int) -> Part:
        pages, raw = cost_of(counts, part)
        return Part(pages, self.transfer_cost.wire_bytes(raw))

    def switch(self) -> StopResult:
        """Pause and take the snapshot; nothing is sent. The guest stays paused.

        The cache is not drained yet, as no page of it is read before the destination runs: what it
        holds counts as missing, and `flush` follows outside the downtime.
        """
        self._timeline.log("pause-requested")
        downtime = self._pause()
        missing, resent = self._stale.missing()
        self.pages_resent += resent
        return StopResult(None, downtime, self._guest.snapshot(drained=False), missing)

    def flush(self) -> None:
        """Drain the paused guest's cache, before its memory is read."""
        lines = self._guest.drain()
        self._stale.harvest()  # those pages are missing already
        self._timeline.log("drained", lines=lines)

    def stop(self) -> StopResult:
        """Pause, drain, send the last pages, take the snapshot. The guest stays paused."""
        guest = self._guest
        requested_ns = self._timeline.log("pause-requested")
        downtime = self._pause()
        this = Round(len(self.done) + 1, RoundKind.FINAL, requested_ns)
        this.drained_lines = guest.drain()
        downtime.ended("drain", self._timeline.log("drained", lines=this.drained_lines))
        self._stale.harvest()
        self._page_sender.guest_is_still(True)
        self._send(this, everything=not self.done)
        totals = this.totals
        sent_ns = self._timeline.log("last-pages-sent", pages=totals.pages, bytes=totals.bytes)
        downtime.ended("last pages", sent_ns)
        snapshot = guest.snapshot()
        self.activity.stopped(requested_ns, self._sending)
        self.done.append(this)
        self.unfinished = SentTotals()
        return StopResult(this, downtime, snapshot)

    def _pause(self) -> Downtime:
        """Pause the guest: its downtime has begun."""
        paused_ns = self._guest.pause()
        self._timeline.log("paused", t_ns=paused_ns)
        downtime = Downtime(paused_ns)
        downtime.ended("pause", self._timeline.log("all-paused"))
        self._hit("paused")
        return downtime


def cost_of(counts: NDArray[np.int64], part: int) -> tuple[int, int]:
    """Pages, and what they cost on the wire."""
    whole, lined, lines = counts[part : part + 3].tolist()
    return whole + lined, uncompressed_bytes(whole, lined, lines)
