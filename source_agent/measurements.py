"""What was measured of one migration, as it goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
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


class Record:
    """Filled in by the session; `source_agent.report.build` makes a report of it at any moment."""

    def __init__(self, config: MigrationConfig, session: str, timeline: Timeline) -> None:
        self.config = config
        self.session = session
        self.timeline = timeline
        self.outcome: Outcome = "failed"
        self.error: str | None = None
        self.strategy: Strategy | None = None
        self.congestion = config.congestion
        self.tls = False
        self.peer_welcome: messages.Welcome | None = None
        self.date = now()
        self.session_start_ns = time.monotonic_ns()
        self.setup_ns = 0
        self.start_ns = 0
        self.completed_ns: int | None = None
        self.resumed_peer_ns: int | None = None
        self.clock_before: Sample | None = None
        self.clock_after: Sample | None = None
        self.boot_progress: Progress | None = None
        self.boot_cache: dict[str, int] | None = None  # what it had counted before this session
        self.start_progress: Progress | None = None
        self.source_samples: list[Progress] = []
        self.decisions: list[Decided] = []
        self.rounds: Rounds | None = None
        self.encoder: CompressingEncoder | None = None
        self.final: StopResult | None = None
        self.finished: messages.Finished | None = None
        self.digest_source: str | None = None
        self.handshake_bytes = 0
        self.control_bytes = 0
        self.bulk_bytes = 0
        self.urgent_bytes = 0
        self.ready: messages.Ready | None = None
        self.windows = Windows()
        self.pushed = 0
        self.pushed_bytes: int | None = None  # where pages do not all cost the same
        self.pulled = 0
        self.supplied_zeros = 0
        self.goes_on = False
        self.prediction: PredictionReport | None = None
        self.predicting_ns: int | None = None  # when its measuring began
        self.cpu_s: float | None = None
        self.seen: GuestSeen | None = None
        self._cpu_start = 0.0
        self._counts: NDArray[np.uint64] | None = None

    # -- filling in ---------------------------------------------------------------------------

    def started(
        self, progress: Progress, vcpu_cpu_s: float, counts: NDArray[np.uint64] | None
    ) -> None:
        """The migration begins."""
        self._counts = counts
        self.start_ns = self.timeline.log("migration-start")
        self.start_progress = progress
        self._cpu_start = time.process_time() - vcpu_cpu_s

    def decided(self, stats: RoundStats | None, decision: Decision) -> None:
        """The strategy has spoken: what it saw, what it said, and why."""
        decided = Decided(stats, decision)
        self.decisions.append(decided)
        self.timeline.log("decision", **decided.seen(), decision=decided.name, why=decision.reason)

    def completed(self, vcpu_cpu_s: float) -> None:
        """The destination has all of the guest: the source is no longer needed."""
        self.completed_ns = time.monotonic_ns()
        self.cpu_s = time.process_time() - vcpu_cpu_s - self._cpu_start

    def supplied(self, supply: Supply) -> None:
        """What post-copy sent."""
        stats = supply.server.stats()
        self.pushed, self.pulled = supply.pushed, stats.pages - stats.zero_pages
        self.pushed_bytes = None if self.encoder is None else supply.pushed_bytes
        self.supplied_zeros = supply.zero_pages + stats.zero_pages
        self.urgent_bytes = stats.sent_bytes + stats.received_bytes

    def ended(self, outcome: Outcome, error: str | None) -> None:
        """How it ended; the first word counts."""
        self.outcome = outcome
        self.error = error

    def see(self, guest: Guest) -> None:
        """Take what the guest knows of itself, before it is replayed or goes away; once."""
        if self.seen is None:
            counts = None if self._counts is None else guest.write_counts() - self._counts
            beats, cache = guest.heartbeats(), guest.cache_stats()
            if cache is not None and self.boot_cache is not None:
                cache = {name: count - self.boot_cache[name] for name, count in cache.items()}
            self.seen = GuestSeen(guest.progress(), beats, cache, counts, guest.slowed_s())

    # -- reading off --------------------------------------------------------------------------

    @property
    def verified(self) -> bool | None:
        """None where it was not asked, or did not come to it."""
        if self.digest_source is None or self.finished is None:
            return None
        return self.digest_source == self.finished.digest

    @property
    def timed_out(self) -> bool:
        """Whether `--timeout` ended the rounds, or cancelled the migration."""
        return self.timeline.find("timeout") is not None

    def cut_short(self, index: int) -> bool:
        """Whether that round, counted from 1, did not send all that it was to."""
        done = self.rounds.done if self.rounds is not None else []
        return 0 < index <= len(done) and done[index - 1].pages_left > 0

    def had_session(self, outcome: messages.Outcome, sample: Sample | None) -> bool:
        """Whether it is the host that had the session which answers, on the same boot.

        By what it says, and by what its clock reads. sample: of that clock, where it told.
        """
        known = self.clock_before
        if known is None or sample is None or not reads_on(known, sample):
            return False
        # Where neither end of it could name its boot, its clock alone has to do.
        return outcome.clock == self.peer_clock

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
