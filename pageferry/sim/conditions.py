"""Link and guest for `common.strategy.forecast`, made of figures instead of measured ones.

What does not depend on guest or link are the constants below: what our own agents need for a
thing, whatever the host. They are rounded, and meant to be the same on any machine of these years.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import UsageError
from pageferry.common.strategy.carrying import ROUND_S, Carrying
from pageferry.common.strategy.forecast import Conditions, Stale
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.bulk import NOTSENT_LOWAT
from pageferry.common.wire.extents import EXTENT
from pageferry.common.wire.header import HEADER, TRAILER
from pageferry.common.wire.pacing import CREDIT_S, LATE_S
from pageferry.sim.link import Link
from pageferry.sim.postcopy import Supply
from pageferry.sim.working_set import PAGE_BYTES, WorkingSet
from pageferry.sim.workloads import working_set
from pageferry.source_agent.precopy.batches import BATCH_PAGES
from pageferry.source_agent.precopy.rounds import DECIDE_S, SCAN_PAGE_S, SWITCHOVER_S

QUANTUM_S: Final = 0.0005  # of a vCPU: a pause comes in the middle of one, on average
WRITE_BACK_S: Final = 30e-9  # of a line, in a drain: 2 GB/s of lines that lie in order
DISCARD_BYTE_S: Final = 100e-12  # of stale pages at the destination: 0.4 us each (MADV_DONTNEED)
MOST_WINDOW: Final = 256  # of adaptive pre-paging: a stream of faults has it after a few
_HALVINGS: Final = 40


@dataclass(frozen=True, slots=True)
class Simulated(Conditions):
    """guest: its working set; since_s: how long it has run when the migration begins.

    link: the way between the two. link_Bps: what it carries without a limit; limit_Bps:
    `--max-bandwidth`. queue_s: how long what is demanded waits behind what is pushed. dirty_per_s:
    pages a second to which all vCPUs together are slowed, infinite: none. run_after_s: how long a
    guest that is copied lazily runs at the destination; window: how many pages come with a demanded
    one where the guest wants them in order. zero_pages: that are zero when the migration begins.
    """

    guest: WorkingSet
    since_s: float
    link: Link
    link_Bps: float
    limit_Bps: float
    queue_s: float
    dirty_per_s: float
    run_after_s: float
    window: int
    zero_pages: float

    @property
    def rtt_s(self) -> float:
        """There and back."""
        return self.link.rtt_s

    def runs(self, begun_s: float, seconds: float) -> float:
        """See `Conditions`: where its dirtying is limited, each page costs the guest its time."""
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
        """See `Conditions`: the guest's schedule says where it is then."""
        begin = self.since_s + begun_s
        return self.guest.stale(begin, begin + ran_s)

    def left(self, kept: Stale, kept_since_s: float, begun_s: float, ran_s: float) -> Stale:
        """See `Conditions`: no more than was written since what is kept has been."""
        later = self.stale_between(begun_s, ran_s)
        if kept.pages == 0:
            return later
        both = kept.and_then(later, self.pages_total)
        most = self.stale_between(kept_since_s, begun_s - kept_since_s + ran_s)
        lines = self.guest.vcpus * self.guest.cache
        return both._replace(
            pages=max(min(both.pages, most.pages), later.pages),
            bytes=max(min(both.bytes, most.bytes), later.bytes),
            cached_lines=min(both.cached_lines, lines),
        )

    def round_seconds(self, size: float, cached: Stale, sent: float) -> float:
        """See `Conditions`: a rate limit lets what was not sent while it rested follow at once."""
        begins = self.drain_s(cached) + self.round_s
        return begins + self._sending_s(size, sent, begins + self.decide_s)

    def carrying(self) -> Carrying:
        """See `Conditions`: as `source_agent.precopy.rounds` does."""
        return Carrying(self.limit_Bps, self.rtt_s)

    def begins_s(self, cached: Stale) -> float:
        """See `Conditions`: a drain, and a look for pages that are stale."""
        return self.drain_s(cached) + self._scan_s

    def _sending_s(self, size: float, sent: float, rested_s: float) -> float:
        """Of so many bytes after a rest, on a connection that has carried so many before.

        What a slow start holds up of a limited rate waits in the socket as far as it has room, and
        the limit forgives a sender that is late: so much is caught up.
        """
        limited = size / self.limit_Bps - min(rested_s, CREDIT_S)
        if not math.isinf(self.limit_Bps):
            caught_up_s = LATE_S + NOTSENT_LOWAT / self.limit_Bps
            late_s = self.link.slow_start_s(size, sent, self.limit_Bps)
            limited += max(late_s - caught_up_s, 0.0)
        return max(limited, self._carried_s(size, sent))

    def _carried_s(self, size: float, sent: float) -> float:
        """Of so many bytes without a limit."""
        return self.link.carried_s(size, sent, self.link_Bps)

    def drain_s(self, left: Stale) -> float:
        """Each vCPU writes its own part of the cache back."""
        return left.cached_lines / self.guest.vcpus * WRITE_BACK_S

    def believed_s(self, left: Stale) -> float:
        """See `Conditions`: what `source_agent.precopy.rounds` expects where a drain is known."""
        return SWITCHOVER_S + self._scan_s + self.rtt_s / 2 + self.drain_s(left)

    def stop_seconds(self, left: Stale, sent: float) -> float:
        """See `Conditions`."""
        return sum(self.stop_parts(left, sent).values())

    @property
    def answer_s(self) -> float:
        """See `Conditions`: it comes one way."""
        return self.rtt_s / 2

    def stop_parts(self, left: Stale, sent: float) -> dict[str, float]:
        """The downtime of a stop, by the names of the report's parts."""
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
        """See `Conditions`."""
        return sum(self.switch_parts(missing_pages).values())

    def switch_parts(self, missing_pages: float) -> dict[str, float]:
        """The downtime of a switch; pages that never came are not there to be discarded."""
        pause_s = QUANTUM_S / 2
        parts = self._hand_over_parts(pause_s)
        stale = 0.0 if missing_pages >= self.pages_total else missing_pages * PAGE_SIZE
        # Which pages are missing comes on a connection that has carried little before.
        told = _map_bytes(missing_pages / self.pages_total) * self.pages_total
        parts["snapshot and commit"] += self._scan_s + self._carried_s(told, 0.0)
        parts["resume"] += stale * DISCARD_BYTE_S
        return {"pause": pause_s, **parts}

    def supply(
        self, missing_pages: float, size: float, sent: float, *, push: bool
    ) -> tuple[float, float]:
        """See `Conditions`. A lazy copy ends with the guest, run_after_s after the resume.

        Pushing begins when the source hears of the resume, half a round trip after it; what comes
        last takes another half, and that all has come a third.
        """
        if push:
            return 1.5 * self.rtt_s + self._sending_s(size, sent, 0.0), size
        demanded = self.missing(missing_pages, 0.0).play(push=False, until_s=self.run_after_s)
        return self.run_after_s, demanded.pulled * self.missing_page_bytes

    def missing(self, pages: float, ran_s: float) -> Supply:
        """The guest after a switch, which came when it had run for ran_s of the migration."""
        begin, working = self.since_s + ran_s, max(self.guest.pages, 1.0)
        among = min(pages / working, 1.0)  # of what it touches
        return Supply(
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
        """What is left of the fixed part of a switch-over; the commit travels one way."""
        half = (self.switchover_s - pause_s) / 2
        return {"snapshot and commit": half + self.rtt_s / 2, "resume": half}

    @property
    def _scan_s(self) -> float:
        return self.pages_total * SCAN_PAGE_S


def _map_bytes(share: float) -> float:
    """A page's in a compressed map of a share that lies at random: its entropy, of 1/8 at most."""
    if not 0.0 < share < 1.0:
        return 0.0
    return -(share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8


def simulated(config: MigrationConfig, link: Link, steps_per_s: float | None = None) -> Simulated:
    """Everything from options alone. Raises `UsageError`."""
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
    """Of all memory: a page that is zero goes as a mark.

    Batches of pages are a frame of those with content, and one of the zeros where there are any;
    runs of either are extents.
    """
    share = zero_pages / config.pages
    runs = 1 + (BATCH_PAGES - 1) * share * (1.0 - share)
    frame = HEADER.size + (TRAILER.size if config.checksum else 0) + runs * EXTENT.itemsize
    batches = math.ceil(config.pages / BATCH_PAGES)
    frames = frame * batches * (1 if share == 0 else 2)
    return round((1.0 - share) * config.memory + frames)
