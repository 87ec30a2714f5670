"""What was measured of one migration, as it goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pageferry.common.clock import ClockMap, Sample, clock_identity, reads_on, same_identity
from pageferry.common.command_line.invocation import now
from pageferry.common.config.model import MigrationConfig
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.progress import Beats, Progress
from pageferry.common.report.schema import Outcome
from pageferry.common.report.sections.prediction import PredictionReport
from pageferry.common.strategy.base import Decision, NextRound, RoundStats, Strategy
from pageferry.common.timeline import Timeline
from pageferry.common.wire import messages
from pageferry.common.wire.pacing import Windows
from pageferry.source_agent.postcopy.supply import Supply
from pageferry.source_agent.precopy.compressing_encoder import CompressingEncoder
from pageferry.source_agent.precopy.rounds import Rounds, StopResult


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and what it was made from (None before the first round)."""

    stats: RoundStats | None
    decision: Decision

    @property
    def name(self) -> str:
        """`NextRound(drain)`, `StopAndCopy`, `SwitchToPostCopy`."""
        name = type(self.decision).__name__
        return f"{name}({self.decision.kind})" if isinstance(self.decision, NextRound) else name

    def seen(self) -> dict[str, Any]:
        """What it was made from, as the report's fields; rates in bytes a second."""
        stats = self.stats
        if stats is None:
            return {"after_round": 0}
        return {
            "after_round": stats.index,
            "dirty_pages": stats.dirty_pages_after,
            "dirty_ratio": stats.dirty_ratio_after,
            "dirty_rate": stats.dirty_rate_Bps,
            "bandwidth": None if math.isinf(stats.bandwidth_Bps) else stats.bandwidth_Bps,
            "expected_remainder_bytes": stats.remaining_bytes,
            "expected_downtime_ms": stats.expected_downtime_s * 1e3,
        }


@dataclass(frozen=True, slots=True)
class GuestSeen:
    """The guest at the source when it stopped for good. cache: its counters, None without one.

    counts: uint64[2, n_pages], `Guest.write_counts` since the migration's start; None: not asked.
    slowed_s: what its vCPUs slept because it was throttled, or dirtied too much.
    """

    progress: Progress
    beats: Sequence[Beats]
    cache: dict[str, int] | None
    counts: NDArray[np.uint64] | None = None
    slowed_s: float = 0.0


@dataclass(slots=True)
class ConnectionMeasurements:
    """Of the connections, and of who is at their other end.

    Attributes:
        congestion: TCP congestion control that they use.
        ready: By which mechanism pages may be missing there.
        clock_before, clock_after: The destination's clock, before the first page and at the end.
        handshake_bytes, control_bytes, bulk_bytes: Both directions, of connections that are closed.
        windows: How evenly bytes left.
    """

    congestion: str
    tls: bool = False
    peer_welcome: messages.Welcome | None = None
    ready: messages.Ready | None = None
    clock_before: Sample | None = None
    clock_after: Sample | None = None
    handshake_bytes: int = 0
    control_bytes: int = 0
    bulk_bytes: int = 0
    windows: Windows = field(default_factory=Windows)

    @property
    def closed_bytes(self) -> int:
        """Both directions, of all connections that are closed but the urgent one."""
        return self.handshake_bytes + self.control_bytes + self.bulk_bytes

    @property
    def peer_clock(self) -> str | None:
        """Which clock the destination reads: a boot of its host."""
        return None if self.peer_welcome is None else self.peer_welcome.clock

    @property
    def clock(self) -> ClockMap | None:
        """The destination's times to ours."""
        if self.clock_before is None or self.peer_welcome is None:
            return None
        after = self.clock_after or self.clock_before
        return ClockMap(self.clock_before, after, same_identity(self.peer_clock, clock_identity()))

    def had_session(self, outcome: messages.Outcome, sample: Sample | None) -> bool:
        """Whether it is the host that had the session which answers, on the same boot.

        By what it says, and by what its clock reads. sample: of that clock, where it told.
        """
        known = self.clock_before
        if known is None or sample is None or not reads_on(known, sample):
            return False
        # Where neither end of it could name its boot, its clock alone has to do.
        return outcome.clock == self.peer_clock


@dataclass(slots=True)
class GuestMeasurements:
    """Of the guest at the source.

    Attributes:
        boot_progress, boot_cache: When the session got it.
        start_progress: When the migration began.
        source_samples: From time to time, until it stopped.
        seen: When it stopped for good.
        goes_on: Whether it was seen to run here after a migration that failed.
    """

    boot_progress: Progress | None = None
    boot_cache: dict[str, int] | None = None
    start_progress: Progress | None = None
    source_samples: list[Progress] = field(default_factory=list)
    seen: GuestSeen | None = None
    goes_on: bool = False
    counts: NDArray[np.uint64] | None = None  # of writes, when the migration began

    def see(self, guest: Guest) -> None:
        """Take what the guest knows of itself, before it is replayed or goes away; once."""
        if self.seen is None:
            counts = None if self.counts is None else guest.write_counts() - self.counts
            beats, cache = guest.heartbeats(), guest.cache_stats()
            if cache is not None and self.boot_cache is not None:
                cache = {name: count - self.boot_cache[name] for name, count in cache.items()}
            self.seen = GuestSeen(guest.progress(), beats, cache, counts, guest.slowed_s())


@dataclass(slots=True)
class PrecopyMeasurements:
    """Of rounds and decisions. final: of the stop, with the parts of its downtime."""

    strategy: Strategy | None = None
    decisions: list[Decided] = field(default_factory=list)
    rounds: Rounds | None = None
    encoder: CompressingEncoder | None = None
    final: StopResult | None = None

    def cut_short(self, index: int) -> bool:
        """Whether that round, counted from 1, did not send all that it was to."""
        done = self.rounds.done if self.rounds is not None else []
        return 0 < index <= len(done) and done[index - 1].pages_left > 0


@dataclass(slots=True)
class PostcopyMeasurements:
    """Of pages that followed the guest.

    Attributes:
        pushed, pulled: Pages with content.
        pushed_bytes: On the wire, where pages do not all cost the same.
        supplied_zeros: Pages without.
        urgent_bytes: Both directions.
    """

    pushed: int = 0
    pushed_bytes: int | None = None
    pulled: int = 0
    supplied_zeros: int = 0
    urgent_bytes: int = 0


@dataclass(slots=True)
class Times:
    """CLOCK_MONOTONIC ns, but for resumed_peer_ns, which is the destination's; 0, None: not yet."""

    session_start_ns: int
    setup_ns: int = 0  # how long it took
    start_ns: int = 0
    completed_ns: int | None = None
    resumed_peer_ns: int | None = None
    cpu_s: float | None = None
    cpu_start_s: float = 0.0


@dataclass(slots=True)
class PredictionMeasurements:
    """What was predicted. predicting_ns: when measuring for it began."""

    prediction: PredictionReport | None = None
    predicting_ns: int | None = None


@dataclass(slots=True)
class ResultMeasurements:
    """What the destination measured, and the digest of our replay."""

    finished: messages.Finished | None = None
    digest_source: str | None = None


class Measurements:
    """What was measured of one migration, phase by phase.

    Filled in by the session; `source_agent.report.build` makes a report of it at any moment.
    """

    def __init__(self, config: MigrationConfig, session: str, timeline: Timeline) -> None:
        self.config = config
        self.session = session
        self.timeline = timeline
        self.date = now()
        self.outcome: Outcome = "failed"
        self.error: str | None = None
        self.connection = ConnectionMeasurements(config.congestion)
        self.guest = GuestMeasurements()
        self.precopy = PrecopyMeasurements()
        self.postcopy = PostcopyMeasurements()
        self.times = Times(time.monotonic_ns())
        self.predicted = PredictionMeasurements()
        self.result = ResultMeasurements()

    # -- filling in ---------------------------------------------------------------------------

    def started(
        self, progress: Progress, vcpu_cpu_s: float, counts: NDArray[np.uint64] | None
    ) -> None:
        """Note that the migration begins. counts: of the guest's writes so far."""
        self.guest.counts = counts
        self.times.start_ns = self.timeline.log("migration-start")
        self.guest.start_progress = progress
        self.times.cpu_start_s = time.process_time() - vcpu_cpu_s

    def decided(self, stats: RoundStats | None, decision: Decision) -> None:
        """Note what the strategy saw, what it said, and why."""
        decided = Decided(stats, decision)
        self.precopy.decisions.append(decided)
        self.timeline.log("decision", **decided.seen(), decision=decided.name, why=decision.reason)

    def completed(self, vcpu_cpu_s: float) -> None:
        """Note that the destination has all of the guest: the source is no longer needed."""
        self.times.completed_ns = time.monotonic_ns()
        self.times.cpu_s = time.process_time() - vcpu_cpu_s - self.times.cpu_start_s

    def supplied(self, supply: Supply) -> None:
        """Note what post-copy sent."""
        stats, postcopy = supply.server.stats(), self.postcopy
        postcopy.pushed, postcopy.pulled = supply.pushed, stats.pages - stats.zero_pages
        postcopy.pushed_bytes = None if self.precopy.encoder is None else supply.pushed_bytes
        postcopy.supplied_zeros = supply.zero_pages + stats.zero_pages
        postcopy.urgent_bytes = stats.sent_bytes + stats.received_bytes

    def ended(self, outcome: Outcome, error: str | None) -> None:
        """Note how it ended."""
        self.outcome = outcome
        self.error = error

    # -- reading off --------------------------------------------------------------------------

    @property
    def verified(self) -> bool | None:
        """None where it was not asked, or did not come to it."""
        if self.result.digest_source is None or self.result.finished is None:
            return None
        return self.result.digest_source == self.result.finished.digest

    @property
    def timed_out(self) -> bool:
        """Whether `--timeout` ended the rounds, or cancelled the migration."""
        return self.timeline.find("timeout") is not None
