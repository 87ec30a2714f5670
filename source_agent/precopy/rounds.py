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
from pageferry.common.guest.stale import CACHE, IN_CACHE, LINES, MEMORY, UNION
from pageferry.common.inject import no_fault
from pageferry.common.report.sections.rounds import PartName
from pageferry.common.strategy.base import NextRound, RoundKind, RoundStats, StalePart
from pageferry.common.strategy.carrying import Carrying
from pageferry.common.timeline import Timeline
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.precopy.activity import Activity
from pageferry.source_agent.precopy.batches import RoundPages, SentTotals, uncompressed_bytes
from pageferry.source_agent.precopy.cache_watch import CacheWatch
from pageferry.source_agent.precopy.compressing_encoder import CompressingEncoder
from pageferry.source_agent.precopy.cost_estimate import TransferCost
from pageferry.source_agent.precopy.page_sender import PageSender
from pageferry.source_agent.precopy.stale_pages import StalePages
from pageferry.source_agent.precopy.throttling import OnPeriod, Throttling

# What a stop costs, whatever is left: pausing within a quantum, the snapshot, the resume.
SWITCHOVER_S: Final = 0.002
_PLAINEST: Final = StreamFormat()
DRAIN_LINE_S: Final = 100e-9  # a scattered 64-byte write-back, until a drain has been measured
_MEASURABLE_LINES: Final = 4096
DECIDE_S: Final = 0.001  # from a round's end to the beginning of the next one, or of the stop
# The masks of all pages are scanned once when a round ends, and once when one begins.
SCAN_PAGE_S: Final = 1.3e-9


@dataclass(slots=True)
class Round:
    """One round as it was. Times are CLOCK_MONOTONIC ns of this host; 0: not yet.

    Attributes:
        index: Its number, counted from 1.
        kind: What it was to send.
        start_ns: When it was ordered; of the last one, when the pause was requested.
        drained_lines: Lines that its drain wrote back.
        totals: What it put on the wire.
        sending_ns: When its pages had been collected.
        end_ns: When the destination's word of it had come.
        dirty_pages_after: Pages that were stale at its end.
        pages_left: Pages that were not sent because it was cut short.
        throttle: The most that the guest was throttled in it, a share of time.
        raw_after: Bytes that pages stale at its end cost without compression and deltas.
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
        """Note that a part of the downtime is over.

        Args:
            part: Its name.
            t_ns: When it ended.
        """
        self.ends.append((part, t_ns))


@dataclass(frozen=True, slots=True)
class StopResult:
    """A guest that has stopped, with all that a commit needs.

    Attributes:
        round: The last round, with all that was left; None in post-copy.
        downtime: The parts of the downtime that are over.
        snapshot: What the destination needs beside memory.
        missing: In post-copy, the pages of which the destination has not the latest content, a bit
            a page, least significant first; None: all have been sent.
    """

    round: Round | None
    downtime: Downtime
    snapshot: dict[str, Any]
    missing: bytes | None = None


class Rounds:
    """The guest's stale pages, and the rounds that send them.

    A page is stale when the destination has not its latest content. All methods block, and run on
    one worker thread at a time.

    Args:
        guest: The guest, which runs until `stop` or `switch` pauses it.
        page_sender: Sends the rounds.
        timeline: Gets the beginning and end of each round, and the steps of the stop.
        rate_Bps: The rate limit in bytes/s; infinity: none.
        rtt_s: Round trip of the control connection.
        stream: Only `by_line` is looked at.
        reached: Tells injected faults that a point has been reached.
        encoder: What compresses pages or makes deltas; None: nothing does.

    Attributes:
        transfer_cost: What stale pages are expected to cost.
        activity: Where in memory rounds were at work.
        throttling: How the guest is throttled.
        done: Rounds that were acknowledged, and then that of the stop.
        unfinished: What a round that is under way, or that failed, has sent.
        pages_resent: Pages that were sent although they had been sent before.
        round_start_bytes: Bytes that had been sent when the present round began to send.
        round_expected: Bytes that the present round is expected to put on the wire.
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
        reached: Callable[[str], None] = no_fault,
        encoder: CompressingEncoder | None = None,
    ) -> None:
        self._encoder = encoder
        self.transfer_cost = TransferCost()
        self._guest = guest
        self._page_sender = page_sender
        self._timeline = timeline
        self._reached = reached
        self._carrying = Carrying(rate_Bps, rtt_s)
        self._rtt_s = rtt_s
        self._drain_line_s = DRAIN_LINE_S
        self.activity = Activity(guest.n_pages)
        self._cache = CacheWatch(guest)
        self._stale = StalePages(guest, self.activity, by_line=stream.by_line)
        self.throttling = Throttling(guest, page_sender, timeline, self._stale.masks)
        self._sending = RoundPages(np.arange(0))
        self.done: list[Round] = []
        self.unfinished = SentTotals()  # of the round that is under way, or failed
        self.pages_resent = 0
        self.round_start_bytes = 0
        self.round_expected = 0

    def send(self, order: NextRound, watcher: OnPeriod | None = None) -> Round:
        """Hold, drain, collect and send as the strategy ordered.

        Args:
            order: What the strategy decided.
            watcher: Is told what the guest dirties meanwhile, and may throttle it; None: nobody
                looks.

        Returns:
            The round, which is still to be acknowledged.

        Raises:
            PageferryError: A channel broke; `unfinished` says what had been sent.
        """
        guest = self._guest
        this = Round(len(self.done) + 1, order.kind, time.monotonic_ns())
        self._timeline.log("round-start", t_ns=this.start_ns, round=this.index, kind=order.kind)
        self._cache.begin()
        self.throttling.begin(order.throttle)
        guest.hold(order.hold)
        if order.drain:
            this.drained_lines = self._drain()
        self._stale.harvest()
        look = None if watcher is None else self.throttling.watch(watcher)
        self._send(
            this,
            everything=order.kind is RoundKind.FULL,
            whole_pages=order.whole_pages,
            look=look,
        )
        this.throttle = self.throttling.share
        return this

    def _drain(self) -> int:
        """Drain the cache and return its lines; learn how long a stop's drain will take."""
        begun = time.monotonic()
        lines = self._guest.drain()
        if lines >= _MEASURABLE_LINES:  # a stop's drain does not wait for vCPUs to come by
            self._drain_line_s = min((time.monotonic() - begun) / lines, DRAIN_LINE_S)
        return lines

    def _send(
        self,
        this: Round,
        *,
        everything: bool,
        whole_pages: bool = False,
        look: Callable[[bool], None] | None = None,
    ) -> None:
        """Send the stale pages, or all.

        They count as clean before they are sent: what is written from here on is in the log, and
        goes again.
        """
        cpu_s = 0.0
        if self._encoder is not None:
            # In a full round, the pages that the guest wrote before are likely to be sent again.
            likely = self._stale.masks != 0 if everything else None
            self._encoder.begin(this.index, likely, last=this.kind is RoundKind.FINAL)
            cpu_s = self._encoder.cpu_s
        pages = self._stale.take_all() if everything else self._stale.take(whole_pages=whole_pages)
        this.sending_ns = time.monotonic_ns()
        self.round_start_bytes = self._page_sender.sent_bytes
        lines = int(np.bitwise_count(pages.masks).sum())
        raw = uncompressed_bytes(len(pages.whole), len(pages.lined), lines)
        started = time.monotonic()
        self.round_expected = self.transfer_cost.wire_bytes(raw)
        sent = self._stale.ever_sent
        fresh = pages.whole[~sent[pages.whole]]
        sent[fresh] = True  # for looks at the dirty log meanwhile
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
        """Note that the destination has all of a round, and look at what is stale now.

        Args:
            this: What `send` returned; completed here.
            elapsed_s: Seconds from the migration's start until the round was acknowledged.

        Returns:
            What the strategy decides from.
        """
        this.end_ns = time.monotonic_ns()
        self.done.append(this)
        self.unfinished = SentTotals()
        counts = self._stale.count()
        this.dirty_pages_after, this.raw_after = cost_of(counts, UNION)
        self.activity.round_done(this.start_ns, this.end_ns, this.kind.value, self._sending)
        self._carrying.record(this.totals.bytes, (this.end_ns - this.sending_ns) / 1e9)
        self._timeline.log(
            "round-end",
            t_ns=this.end_ns,
            round=this.index,
            pages=this.totals.pages,
            zero_pages=this.totals.zero_pages,
            lines=this.totals.lines,
            bytes=this.totals.bytes,
            dirty_pages_after=this.dirty_pages_after,
        )
        return self._stats(this, counts, elapsed_s)

    def _stats(self, this: Round, counts: NDArray[np.int64], elapsed_s: float) -> RoundStats:
        """Make the statistics of a round that has just ended; counts: of what is stale now."""
        duration_s = (this.end_ns - this.start_ns) / 1e9
        dirty_pages, raw = this.dirty_pages_after, this.raw_after
        remaining = self.transfer_cost.wire_bytes(raw)
        rate_Bps = self._carrying.rate_Bps
        return RoundStats(
            index=this.index,
            kind=this.kind,
            pages_total=self._guest.n_pages,
            pages_sent=this.totals.pages + this.totals.zero_pages,
            bytes_sent=this.totals.bytes,
            pages_by_line=this.totals.line_pages,
            duration_s=duration_s,
            transfer_s=(this.end_ns - this.sending_ns) / 1e9,
            cache=self._cache.end(duration_s, dirty_pages, int(counts[LINES])),
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
        """Return what a stop takes beyond its pages; what comes last travels one way."""
        return SWITCHOVER_S + self._scan_s + self._rtt_s / 2 + cached_lines * self._drain_line_s

    def _part(self, counts: NDArray[np.int64], part: int) -> StalePart:
        pages, raw = cost_of(counts, part)
        return StalePart(pages, self.transfer_cost.wire_bytes(raw))

    def switch(self) -> StopResult:
        """Pause the guest and take its snapshot without sending anything; it stays paused.

        The cache is not drained yet, as no page is read from memory before the destination runs:
        what the cache holds counts as missing. `flush` has to follow, outside the downtime.

        Returns:
            The stop, with the pages that are missing at the destination.
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
        """Pause the guest, drain, send the last pages and take the snapshot; it stays paused.

        Returns:
            The stop, with the last round, whose barrier is still to be acknowledged.

        Raises:
            PageferryError: A channel broke; `unfinished` says what had been sent.
        """
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
        """Pause the guest, which begins its downtime."""
        paused_ns = self._guest.pause()
        self._timeline.log("paused", t_ns=paused_ns)
        downtime = Downtime(paused_ns)
        downtime.ended("pause", self._timeline.log("all-paused"))
        self._reached("paused")
        return downtime


def cost_of(counts: NDArray[np.int64], part: int) -> tuple[int, int]:
    """Count pages, and compute what they cost on the wire.

    Args:
        counts: int64[COUNTS] of `common.guest.stale`.
        part: Which of them: `UNION`, `MEMORY` or `CACHE`.

    Returns:
        Pages, and their bytes without compression and deltas.
    """
    whole, lined, lines = counts[part : part + 3].tolist()
    return whole + lined, uncompressed_bytes(whole, lined, lines)
