"""Link and guest for `common.strategy.forecast`, made of figures instead of measured ones.

What depends on neither guest nor link are the constants below: what our own agents need for a
thing, whatever the host. They are rounded, and meant to be the same on any machine of these years.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import UsageError
from pageferry.common.strategy.base import CacheStats
from pageferry.common.strategy.carrying import ROUND_S, Carrying
from pageferry.common.strategy.conditions import Conditions, Stale
from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire.bulk_sender import NOTSENT_LOWAT
from pageferry.common.wire.extents import EXTENT
from pageferry.common.wire.header import HEADER, TRAILER
from pageferry.common.wire.pacing import CREDIT_S, LATE_S
from pageferry.sim.link import SimulatedLink
from pageferry.sim.postcopy import SimulatedSupply
from pageferry.sim.working_set import PAGE_BYTES, WorkingSet
from pageferry.sim.workloads import working_set
from pageferry.source_agent.precopy.batches import BATCH_PAGES
from pageferry.source_agent.precopy.rounds import DECIDE_S, SCAN_PAGE_S, SWITCHOVER_S

QUANTUM_S: Final = 0.0005  # of a vCPU; on average a pause comes in the middle of one
WRITE_BACK_S: Final = 30e-9  # of a line, in a drain: 2 GB/s of lines that lie in order
DISCARD_BYTE_S: Final = 100e-12  # of stale pages at the destination: 0.4 us each (MADV_DONTNEED)
MOST_WINDOW: Final = 256  # of adaptive pre-paging: a stream of faults has it after a few
_HALVINGS: Final = 40


@dataclass(frozen=True, slots=True)
class Simulated(Conditions):
    """Link and guest of a simulated migration.

    Attributes:
        guest: The guest's working set.
        since_s: How long the guest has run when the migration begins.
        link: The way between the two.
        link_Bps: What one connection carries without a limit; infinite where nothing holds it up.
        limit_Bps: `--max-bandwidth`; infinite is none.
        queue_s: How long a demanded page waits behind those that are pushed.
        dirty_per_s: Dirtied pages a second to which all vCPUs together are slowed; infinite is not.
        run_after_s: How long a guest that is copied lazily runs at the destination.
        window: Pages that come with a demanded one, where the guest wants them in order.
        zero_pages: Pages that are zero when the migration begins.
    """

    guest: WorkingSet
    since_s: float
    link: SimulatedLink
    link_Bps: float
    limit_Bps: float
    queue_s: float
    dirty_per_s: float
    run_after_s: float
    window: int
    zero_pages: float

    @property
    def rtt_s(self) -> float:
        """Round trip of the link."""
        return self.link.rtt_s

    def runs(self, begun_s: float, seconds: float) -> float:
        """Compute how far the guest comes: with a dirty limit, each dirtied page costs it time.

        Args:
            begun_s: When it begins, in the guest's own time since the migration's start.
            seconds: How much time it has.

        Returns:
            For how long it runs, in its own time; `seconds` without a limit.
        """
        if math.isinf(self.dirty_per_s):
            return seconds
        begin = self.since_s + begun_s

        def takes(ran: float) -> float:
            pages = self.guest.stale(begin, begin + ran).pages
            return max(ran, pages / self.dirty_per_s)

        if takes(seconds) <= seconds:
            return seconds
        low, high = 0.0, seconds
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if takes(middle) <= seconds else (low, middle)
        return low

    def stale_between(self, begun_s: float, ran_s: float) -> Stale:
        """Compute what becomes stale; the guest's schedule says where it is by then.

        Args:
            begun_s: When it begins, in the guest's own time since the migration's start.
            ran_s: For how long the guest runs.

        Returns:
            What it writes meanwhile.
        """
        begin = self.since_s + begun_s
        return self.guest.stale(begin, begin + ran_s)

    def left(self, kept: Stale, begun_s: float, ran_s: float, *, held: bool) -> Stale:
        """Compute what is stale after a round; what it kept back may have been evicted since.

        Args:
            kept: What the round left in the cache.
            begun_s: When the round began, in the guest's own time since the migration's start.
            ran_s: For how long the guest has run since.
            held: Whether the cache holds its write-backs.

        Returns:
            What is stale now.
        """
        since_s = min(kept.cached_from_s, begun_s) if kept.pages else begun_s
        begin, end = self.since_s + since_s, self.since_s + begun_s + ran_s
        left = self.guest.stale(begin, end, held=held)
        oldest_s = max(begin, end - self.guest.kept_s(end, held=held)) - self.since_s
        return left._replace(cached_from_s=oldest_s)

    def cache_stats(self, begun_s: float, ran_s: float, left: Stale) -> CacheStats | None:
        """Compute what the guest's cache did in a round, as if it had begun drained.

        Args:
            begun_s: When the round began, in the guest's own time since the migration's start.
            ran_s: For how long the guest ran.
            left: What is stale at its end.

        Returns:
            None without a cache.
        """
        if not self.guest.cache:
            return None
        begin = self.since_s + begun_s
        did = self.guest.cached_writes(begin, begin + ran_s)
        hits = 1.0 - did.dirtied / did.accesses if did.accesses else 0.0
        return CacheStats(
            dirty_hit_rate=min(max(hits, 0.0), 1.0),
            write_back_Bps=(did.dirtied - did.held) * LINE_SIZE / ran_s if ran_s else 0.0,
            dirty_lines=round(left.cached_lines),
            lines_per_page=left.lines / left.pages if left.pages else 0.0,
        )

    def round_seconds(self, size: float, cached: Stale, sent: float) -> float:
        """Compute how long a round takes.

        A rate limit lets what was not sent while it rested follow at once.

        Args:
            size: Bytes of the round.
            cached: What is drained first.
            sent: Bytes that the connections have carried before.

        Returns:
            Seconds, until the destination's word of it has come.
        """
        begins = self.drain_s(cached) + self.round_s
        return begins + self._sending_s(size, sent, begins + self.decide_s)

    def carrying(self) -> Carrying:
        """Make what the source knows of the link, as `source_agent.precopy.rounds` does.

        Returns:
            What it knows at the start: its own limit and the round trip.
        """
        return Carrying(self.limit_Bps, self.rtt_s)

    def begins_s(self, cached: Stale) -> float:
        """Compute what a round takes before its first page: a drain, and a look for stale pages.

        Args:
            cached: What is drained.

        Returns:
            Seconds.
        """
        return self.drain_s(cached) + self._scan_s

    def _sending_s(self, size: float, sent: float, rested_s: float) -> float:
        """Compute how long bytes take after a rest, on a connection that has carried others before.

        What a slow start holds up of a limited rate waits in the socket as far as that has room,
        and the limit forgives a sender that is late: so much is caught up.
        """
        limited = size / self.limit_Bps - min(rested_s, CREDIT_S)
        if not math.isinf(self.limit_Bps):
            caught_up_s = LATE_S + NOTSENT_LOWAT / self.limit_Bps
            late_s = self.link.slow_start_s(size, sent, self.limit_Bps)
            limited += max(late_s - caught_up_s, 0.0)
        return max(limited, self._carried_s(size, sent))

    def _carried_s(self, size: float, sent: float) -> float:
        """Compute how long bytes take without a limit."""
        return self.link.carried_s(size, sent, self.link_Bps)

    def drain_s(self, left: Stale) -> float:
        """Compute how long a drain takes: each vCPU writes back its own part of the cache.

        Args:
            left: What is drained.

        Returns:
            Seconds.
        """
        return left.cached_lines / self.guest.vcpus * WRITE_BACK_S

    def believed_s(self, left: Stale) -> float:
        """Compute what `source_agent.precopy.rounds` expects of a switch-over, with a drain known.

        Args:
            left: What is left to send.

        Returns:
            Seconds beyond the last pages' sending.
        """
        return SWITCHOVER_S + self._scan_s + self.rtt_s / 2 + self.drain_s(left)

    def stop_seconds(self, left: Stale, sent: float) -> float:
        """Compute the downtime of a stop.

        Args:
            left: What is left to send.
            sent: Bytes that the connections have carried before.

        Returns:
            Seconds.
        """
        return sum(self.stop_parts(left, sent).values())

    @property
    def answer_s(self) -> float:
        """How long the word of the resume takes to the source: it comes one way."""
        return self.rtt_s / 2

    def stop_parts(self, left: Stale, sent: float) -> dict[str, float]:
        """Split the downtime of a stop by the names of the report's parts.

        Args:
            left: What is left to send.
            sent: Bytes that the connections have carried before.

        Returns:
            Seconds by name, in order.
        """
        drain_s = self.drain_s(left)
        pause_s = QUANTUM_S / 2
        rested_s = self.decide_s + pause_s + drain_s
        return {
            "pause": pause_s,
            "drain": drain_s,
            "last pages": self._scan_s + self._sending_s(left.bytes, sent, rested_s),
            **self._hand_over_parts(pause_s),
        }

    def switch_seconds(self, missing_pages: float) -> float:
        """Compute the downtime of a switch to post-copy.

        Args:
            missing_pages: Pages that the destination lacks then.

        Returns:
            Seconds.
        """
        return sum(self.switch_parts(missing_pages).values())

    def switch_parts(self, missing_pages: float) -> dict[str, float]:
        """Split the downtime of a switch to post-copy by the names of the report's parts.

        Pages that never came are not there to be discarded.

        Args:
            missing_pages: Pages that the destination lacks then.

        Returns:
            Seconds by name, in order.
        """
        pause_s = QUANTUM_S / 2
        parts = self._hand_over_parts(pause_s)
        stale = 0.0 if missing_pages >= self.pages_total else missing_pages * PAGE_SIZE
        # The map of missing pages goes over a connection that has carried little before.
        told = _map_bytes(missing_pages / self.pages_total) * self.pages_total
        parts["snapshot and commit"] += self._scan_s + self._carried_s(told, 0.0)
        parts["resume"] += stale * DISCARD_BYTE_S
        return {"pause": pause_s, **parts}

    def supply(
        self, missing_pages: float, size: float, sent: float, *, push: bool
    ) -> tuple[float, float]:
        """Compute how the missing pages come.

        A lazy copy ends with the guest, run_after_s after the resume. Pushing begins when the
        source hears of the resume, half a round trip after it; the last page takes another half,
        and the word that all have come a third.

        Args:
            missing_pages: Pages that the destination lacks.
            size: Bytes of all of them.
            sent: Bytes that the connections have carried before.
            push: Whether pages are sent that nobody has asked for.

        Returns:
            Seconds from the resume until the source knows of the end, and the bytes sent by then.
        """
        if push:
            return 1.5 * self.rtt_s + self._sending_s(size, sent, 0.0), size
        demanded = self.missing(missing_pages, 0.0).play(push=False, until_s=self.run_after_s)
        return self.run_after_s, demanded.pulled * self.missing_page_bytes

    def missing(self, pages: float, ran_s: float) -> SimulatedSupply:
        """Make the guest as it is after a switch.

        Args:
            pages: Pages that the destination lacks.
            ran_s: For how long the guest had run during the migration.

        Returns:
            The guest with its missing pages, not yet played.
        """
        begin, working = self.since_s + ran_s, max(self.guest.pages, 1.0)
        among = min(pages / working, 1.0)  # of what it touches
        return SimulatedSupply(
            missing=pages,
            working=min(pages, working),
            touched=lambda ran: among * self.guest.touched(begin, begin + ran),
            vcpus=self.guest.vcpus,
            busy=self.guest.busy,
            rate_Bps=self.bandwidth_Bps,
            link_Bps=self.link_Bps,
            rtt_s=self.rtt_s,
            queue_s=self.queue_s,
            window=self.window if self.guest.in_order else 0,
        )

    def _hand_over_parts(self, pause_s: float) -> dict[str, float]:
        """Split what is left of the fixed part of a switch-over; the commit travels one way."""
        half = (self.switchover_s - pause_s) / 2
        return {"snapshot and commit": half + self.rtt_s / 2, "resume": half}

    @property
    def _scan_s(self) -> float:
        return self.pages_total * SCAN_PAGE_S


def _map_bytes(share: float) -> float:
    """Compute a page's bytes in a compressed map of a random share: its entropy, 1/8 at most."""
    if not 0.0 < share < 1.0:
        return 0.0
    return -(share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8


def simulated_conditions(
    config: MigrationConfig, link: SimulatedLink, steps_per_s: float | None = None
) -> Simulated:
    """Make link and guest from options alone.

    Args:
        config: The guest and the transfer.
        link: The link.
        steps_per_s: Speed of a vCPU that runs flat out; None is `Speed`'s.

    Returns:
        What a strategy can be played against.

    Raises:
        UsageError: Nothing limits the rate, or the workload can't be modelled.
    """
    link_Bps = link.carries(config.congestion)
    if math.isinf(min(config.max_bandwidth, link_Bps)):
        raise UsageError(
            "nothing limits the link: expected --max-bandwidth RATE, or rate=RATE in --link"
        )
    guest, zero_share = working_set(
        config.guest, by_line=config.travels_by_line, steps_per_s=steps_per_s
    )
    limit = math.inf if config.dirty_limit is None else config.dirty_limit * config.vcpus
    scan_s = config.pages * SCAN_PAGE_S
    written = guest.stale(0.0, config.warmup).pages
    zero_pages = zero_share * max(config.pages - written, 0.0)
    return Simulated(
        pages_total=config.pages,
        full_bytes=_full_bytes(config, zero_pages),
        missing_page_bytes=PAGE_BYTES,
        bandwidth_Bps=min(config.max_bandwidth, link_Bps),
        round_s=ROUND_S + scan_s + link.rtt_s,
        decide_s=DECIDE_S + scan_s,
        switchover_s=SWITCHOVER_S,
        last_bytes=0,
        last_s=0.0,
        stale=lambda seconds: guest.stale(config.warmup, config.warmup + seconds),
        guest=guest,
        since_s=config.warmup,
        link=link,
        link_Bps=link_Bps,
        limit_Bps=config.max_bandwidth,
        queue_s=link.standing_s(config.congestion) if config.max_bandwidth >= link_Bps else 0.0,
        dirty_per_s=limit / PAGE_SIZE,
        run_after_s=config.run_after,
        zero_pages=zero_pages,
        window=MOST_WINDOW if config.prepage.pages is None else config.prepage.pages,
    )


def _full_bytes(config: MigrationConfig, zero_pages: float) -> int:
    """Compute the bytes that all memory takes; a page that is zero goes as a mark.

    A batch of pages is one frame with those that have content, and one with the zeros if there are
    any; runs of either are extents.
    """
    share = zero_pages / config.pages
    runs = 1 + (BATCH_PAGES - 1) * share * (1.0 - share)
    frame = HEADER.size + (TRAILER.size if config.checksum else 0) + runs * EXTENT.itemsize
    batches = math.ceil(config.pages / BATCH_PAGES)
    frames = frame * batches * (1 if share == 0 else 2)
    return round((1.0 - share) * config.memory + frames)
