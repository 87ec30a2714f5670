"""Rounds whose pages are made shorter: what strategies are told, and what the encoder is."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from pageferry.common.guest.machine import Guest
from pageferry.common.strategy.base import NextRound, RoundKind, RoundStats
from pageferry.common.timeline import Timeline
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.extents import EXTENT
from pageferry.source_agent.precopy import cost_estimate
from pageferry.source_agent.precopy.batches import RoundPages, SentTotals
from pageferry.source_agent.precopy.compressing_encoder import CompressingEncoder
from pageferry.source_agent.precopy.page_sender import PageSender
from pageferry.source_agent.precopy.rounds import SWITCHOVER_S, Rounds
from tests.unit.source_agent.precopy.test_rounds import (
    N_PAGES,
    RATE,
    RTT_S,
    ScriptedGuest,
    ScriptedPageSender,
)

PAGE_COST = PAGE_SIZE + EXTENT.itemsize


class ScriptedEncoder:
    """Its work takes what a test says."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.began: list[tuple[int, list[int] | None, bool]] = []
        self.takes_s = 0.0

    def begin(self, index: int, likely: NDArray[np.bool_] | None, *, last: bool) -> None:
        pages = None if likely is None else np.flatnonzero(likely).tolist()
        self.began.append((index, pages, last))


class Outgoing(ScriptedPageSender):
    encoder: ScriptedEncoder

    def send_round(
        self, round_pages: RoundPages, index: int, look: Callable[[bool], None] | None = None
    ) -> tuple[SentTotals, RoundPages]:
        self.encoder.cpu_s += self.encoder.takes_s
        return super().send_round(round_pages, index, look)


class Bench:
    def __init__(self) -> None:
        calls: list[str] = []
        self.guest = ScriptedGuest(calls)
        self.page_sender = Outgoing(calls, self.guest)
        self.encoder = self.page_sender.encoder = ScriptedEncoder()
        self.rounds = Rounds(
            cast(Guest, self.guest),
            cast(PageSender, self.page_sender),
            Timeline("source"),
            RATE,
            RTT_S,
            encoder=cast(CompressingEncoder, self.encoder),
        )

    def round(self, kind: RoundKind, size: int) -> RoundStats:
        """One that puts so many bytes on the wire, while five pages are written."""
        self.page_sender.size = size
        self.guest.write_later = {1, 2, 3, 4, 5}
        sent = self.rounds.send(NextRound(kind, False, False, "because"))
        return self.rounds.acknowledged(sent, 1.0)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(cost_estimate, "SAMPLE_BYTES", 1)
    return Bench()


def test_what_is_left_costs_what_the_last_round_of_changed_pages_did(bench: Bench) -> None:
    first = bench.round(RoundKind.FULL, N_PAGES * PAGE_COST // 10)
    assert first.remaining_bytes == 5 * PAGE_COST  # what the first round did says nothing of it
    assert first.compression_ratio == 1
    second = bench.round(RoundKind.DIRTY, 5 * PAGE_COST // 4)
    assert second.remaining_bytes == pytest.approx(5 * PAGE_COST / 4, abs=1)
    assert second.in_memory.bytes == second.remaining_bytes
    assert second.compression_ratio == pytest.approx(0.25, rel=1e-3)
    assert bench.rounds.throttling.ratio == second.compression_ratio


def test_a_round_that_was_cut_short_says_nothing(bench: Bench) -> None:
    bench.round(RoundKind.FULL, 1000)
    bench.page_sender.left = RoundPages(np.array([4, 5]))
    assert bench.round(RoundKind.DIRTY, 100).compression_ratio == 1


def test_work_counts_where_it_takes_longer_than_the_link(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))
    bench.round(RoundKind.FULL, 1000)
    monkeypatch.setattr(
        "pageferry.source_agent.precopy.rounds.time.monotonic", lambda: float(next(clock))
    )
    bench.encoder.takes_s = 0.5
    stats = bench.round(RoundKind.DIRTY, 100)
    beyond_s = SWITCHOVER_S + RTT_S / 2 + 0.75  # half a round trip: a stop goes one way
    assert stats.switchover_s == pytest.approx(beyond_s, abs=1e-4)
    assert stats.expected_downtime_s == pytest.approx(stats.switchover_s, abs=1e-3)


def test_the_encoder_is_told_which_pages_may_go_again(bench: Bench) -> None:
    bench.guest.log = {7, 9}
    bench.round(RoundKind.FULL, 1000)
    bench.round(RoundKind.DIRTY, 1000)
    bench.rounds.stop()
    assert bench.encoder.began == [(1, [7, 9], False), (2, None, False), (3, None, True)]
