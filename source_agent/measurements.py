"""What was measured of one migration, as it goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pageferry.common.clock import ClockMap, ClockSample, clock_identity, reads_on, same_identity
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
from pageferry.source_agent.postcopy.supply import PageSupply
from pageferry.source_agent.precopy.compressing_encoder import CompressingEncoder
from pageferry.source_agent.precopy.rounds import Rounds, StopResult


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, and the measurements that it was made from.

    Attributes:
        stats: Of the round before; None before the first round.
        decision: What the strategy decided.
    """

    stats: RoundStats | None
    decision: Decision

    @property
    def name(self) -> str:
        """The decision's kind: `NextRound(drain)`, `StopAndCopy`, `SwitchToPostCopy`."""
        name = type(self.decision).__name__
        return f"{name}({self.decision.kind})" if isinstance(self.decision, NextRound) else name

    def seen(self) -> dict[str, Any]:
        """Return what the decision was made from, as the report's fields.

        Returns:
            Rates in bytes/s, the expected downtime in ms; `bandwidth` is None where it is unknown.
            Before the first round there is nothing but `after_round`, 0.
        """
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
    """The guest at the source, when it stopped for good.

    Attributes:
        progress: Its steps and dirtied pages by then.
        beats: The heartbeats of each vCPU.
        cache: Counters of its cache since the session got it; None without a cache.
        counts: uint64[2, n_pages], `Guest.write_counts` since the migration's start; None: not
            asked for.
        slowed_s: Seconds that its vCPUs slept, all together, because the guest was throttled or
            dirtied too much.
    """

    progress: Progress
    beats: Sequence[Beats]
    cache: dict[str, int] | None
    counts: NDArray[np.uint64] | None = None
    slowed_s: float = 0.0


@dataclass(slots=True)
class ConnectionMeasurements:
    """The connections, and who is at their other end.

    Attributes:
        congestion: The TCP congestion control that they use.
        tls: Whether they use TLS.
        peer_welcome: The destination's welcome; None before it.
        ready: Says by which mechanism pages may be missing there; None before it came.
        clock_before: The destination's clock before the first page; None before it was sampled.
        clock_after: The destination's clock at the end; None before it was sampled.
        handshake_bytes: Both directions, of the handshakes of bulk and urgent connections.
        control_bytes: Both directions, of control connections that are closed.
        bulk_bytes: What was sent on bulk connections that are closed.
        windows: How evenly bytes left.
    """

    congestion: str
    tls: bool = False
    peer_welcome: messages.Welcome | None = None
    ready: messages.Ready | None = None
    clock_before: ClockSample | None = None
    clock_after: ClockSample | None = None
    handshake_bytes: int = 0
    control_bytes: int = 0
    bulk_bytes: int = 0
    windows: Windows = field(default_factory=Windows)

    @property
    def closed_bytes(self) -> int:
        """Bytes of all closed connections but the urgent one."""
        return self.handshake_bytes + self.control_bytes + self.bulk_bytes

    @property
    def peer_clock(self) -> str | None:
        """The clock that the destination reads: a boot of its host; None before its welcome."""
        return None if self.peer_welcome is None else self.peer_welcome.clock

    @property
    def clock(self) -> ClockMap | None:
        """The map from the destination's times to ours; None before its clock was sampled."""
        if self.clock_before is None or self.peer_welcome is None:
            return None
        after = self.clock_after or self.clock_before
        return ClockMap(self.clock_before, after, same_identity(self.peer_clock, clock_identity()))

    def had_session(self, outcome: messages.CommitOutcome, sample: ClockSample | None) -> bool:
        """Return whether the host that answers is the one that had the session, on the same boot.

        Both what it says and what its clock reads have to fit.

        Args:
            outcome: The answer, which names a clock.
            sample: Of that clock; None where the answer did not say what it reads.

        Returns:
            False also where our own session never sampled the destination's clock.
        """
        known = self.clock_before
        if known is None or sample is None or not reads_on(known, sample):
            return False
        # Where it could not name its boot either time, its clock alone has to do.
        return outcome.clock == self.peer_clock


@dataclass(slots=True)
class GuestMeasurements:
    """The guest at the source.

    Attributes:
        boot_progress: Its progress when the session got it; None before that.
        boot_cache: Counters of its cache at that moment; None without a cache.
        start_progress: Its progress when the migration began; None before that.
        source_samples: Its progress from time to time, until it stopped.
        seen: The guest when it stopped for good; None before that.
        goes_on: Whether it was seen to run here after a migration that failed.
        counts: uint64[2, n_pages], `Guest.write_counts` when the migration began; lines that were
            dirty in the cache then are taken off the first row. None: not asked for.
    """

    boot_progress: Progress | None = None
    boot_cache: dict[str, int] | None = None
    start_progress: Progress | None = None
    source_samples: list[Progress] = field(default_factory=list)
    seen: GuestSeen | None = None
    goes_on: bool = False
    counts: NDArray[np.uint64] | None = None  # write counts when the migration began

    def see(self, guest: Guest) -> None:
        """Take what the guest knows of itself, before it is replayed or closed; only once.

        Args:
            guest: Is only looked at; further calls do nothing.
        """
        if self.seen is None:
            counts = None if self.counts is None else guest.write_counts() - self.counts
            beats, cache = guest.heartbeats(), guest.cache_stats()
            if cache is not None and self.boot_cache is not None:
                cache = {name: count - self.boot_cache[name] for name, count in cache.items()}
            self.seen = GuestSeen(guest.progress(), beats, cache, counts, guest.slowed_s())


@dataclass(slots=True)
class PrecopyMeasurements:
    """Rounds and decisions.

    Attributes:
        strategy: The one that decides; None before the first decision.
        decisions: Every decision so far, in order.
        rounds: The rounds and what they know of pages; None before the setup is complete.
        encoder: What compresses pages or makes deltas; None: nothing does.
        final: The stop, with the parts of its downtime; None before the commit.
    """

    strategy: Strategy | None = None
    decisions: list[Decided] = field(default_factory=list)
    rounds: Rounds | None = None
    encoder: CompressingEncoder | None = None
    final: StopResult | None = None

    def cut_short(self, index: int) -> bool:
        """Return whether a round did not send all that it was to send.

        Args:
            index: The round's number, counted from 1.

        Returns:
            False also for a round that is not done.
        """
        done = self.rounds.done if self.rounds is not None else []
        return 0 < index <= len(done) and done[index - 1].pages_left > 0


@dataclass(slots=True)
class PostcopyMeasurements:
    """Pages that followed the guest.

    Attributes:
        pushed: Pages with content that were pushed.
        pushed_bytes: What those took on the wire; None where every page costs the same.
        pulled: Pages with content that were demanded, with their neighbours.
        supplied_zeros: Pages without content, pushed or pulled.
        urgent_bytes: Of urgent connections, both directions.
    """

    pushed: int = 0
    pushed_bytes: int | None = None
    pulled: int = 0
    supplied_zeros: int = 0
    urgent_bytes: int = 0


@dataclass(slots=True)
class Times:
    """Moments of the migration: CLOCK_MONOTONIC ns of this host where nothing else is said.

    Attributes:
        session_start_ns: When the session was made.
        setup_ns: How long the setup took; 0: not yet.
        start_ns: When the migration began; 0: not yet.
        completed_ns: When the destination had all of the guest; None: not yet.
        resumed_peer_ns: When the guest resumed there, ns of the destination's clock; None: not yet,
            or not known.
        cpu_s: CPU seconds of this process without its vCPUs, from `start_ns` to `completed_ns`;
            None: not yet.
        cpu_start_s: The same clock's reading when the migration began.
    """

    session_start_ns: int
    setup_ns: int = 0  # how long it took
    start_ns: int = 0
    completed_ns: int | None = None
    resumed_peer_ns: int | None = None
    cpu_s: float | None = None
    cpu_start_s: float = 0.0


@dataclass(slots=True)
class PredictionMeasurements:
    """What was predicted.

    Attributes:
        prediction: The prediction; None: none was made.
        predicting_ns: When measuring for it began, CLOCK_MONOTONIC ns; None: it did not.
    """

    prediction: PredictionReport | None = None
    predicting_ns: int | None = None


@dataclass(slots=True)
class ResultMeasurements:
    """What the destination measured, and the digest of our replay.

    Attributes:
        finished: The destination's result, once it has been believed; None before that.
        digest_source: Hex digest of the replayed copy; None: there was no replay.
    """

    finished: messages.Finished | None = None
    digest_source: str | None = None


class Measurements:
    """What was measured of one migration, phase by phase.

    The session fills it in; `source_agent.report.build` makes a report of it at any moment.

    Args:
        config: Every option of the migration.
        session: Id of the session, in hex.
        timeline: Of the session; gets the migration's start and each decision from here.

    Attributes:
        date: When the session was made, UTC, ISO 8601.
        outcome: `failed` until `ended` says something else.
        error: Why it ended as it did, in one line; None: no reason is known.
        connection: The connections.
        guest: The guest at the source.
        precopy: Rounds and decisions.
        postcopy: Pages that followed the guest.
        times: Moments of the migration.
        predicted: What was predicted.
        result: What the destination measured.
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
        """Note that the migration begins.

        Args:
            progress: Of the guest at this moment.
            vcpu_cpu_s: CPU seconds of this process's vCPUs so far, which are not counted.
            counts: uint64[2, n_pages], the guest's writes so far; None: not asked for.
        """
        self.guest.counts = counts
        self.times.start_ns = self.timeline.log("migration-start")
        self.guest.start_progress = progress
        self.times.cpu_start_s = time.process_time() - vcpu_cpu_s

    def decided(self, stats: RoundStats | None, decision: Decision) -> None:
        """Note what the strategy saw, what it decided, and why.

        Args:
            stats: Of the round before; None before the first one.
            decision: The decision, with its reason.
        """
        decided = Decided(stats, decision)
        self.precopy.decisions.append(decided)
        self.timeline.log("decision", **decided.seen(), decision=decided.name, why=decision.reason)

    def completed(self, vcpu_cpu_s: float) -> None:
        """Note that the destination has all of the guest: the source is no longer needed.

        Args:
            vcpu_cpu_s: CPU seconds of this process's vCPUs so far, which are not counted.
        """
        self.times.completed_ns = time.monotonic_ns()
        self.times.cpu_s = time.process_time() - vcpu_cpu_s - self.times.cpu_start_s

    def supplied(self, supply: PageSupply) -> None:
        """Note what post-copy sent.

        Args:
            supply: Has not been closed, and nobody is using it any more.
        """
        stats, postcopy = supply.server.stats(), self.postcopy
        postcopy.pushed, postcopy.pulled = supply.pushed, stats.pages - stats.zero_pages
        postcopy.pushed_bytes = None if self.precopy.encoder is None else supply.pushed_bytes
        postcopy.supplied_zeros = supply.zero_pages + stats.zero_pages
        postcopy.urgent_bytes = stats.sent_bytes + stats.received_bytes

    def ended(self, outcome: Outcome, error: str | None) -> None:
        """Note how the migration ended.

        Args:
            outcome: How it ended.
            error: Why, in one line; None: all is well.
        """
        self.outcome = outcome
        self.error = error

    # -- reading off --------------------------------------------------------------------------

    @property
    def verified(self) -> bool | None:
        """Whether both digests are equal; None where that was not asked for, or not reached."""
        if self.result.digest_source is None or self.result.finished is None:
            return None
        return self.result.digest_source == self.result.finished.digest

    @property
    def timed_out(self) -> bool:
        """Whether `--timeout` ended the rounds, or cancelled the migration."""
        return self.timeline.find("timeout") is not None
