"""Connections break while pages are missing: the guest waits, and nothing is lost."""

from __future__ import annotations

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import GuestLostError
from tests.support.through_relay import moved_through
from tests.support.tiers import FULL

CONFIG = MigrationConfig(
    memory=2**22,
    workload="zipf:rate=10MB/s",
    strategy="post-copy",
    max_bandwidth=20e6,
    warmup=0.02,
    run_after=0.05,
    recover_timeout=5.0,
)


class CutOnce:
    """Cuts the first connection that has carried `offset` bytes since the guest resumed there."""

    def __init__(self, *offsets: int) -> None:
        self.offsets = list(offsets)
        self.total = 0

    def __call__(self, _sent: int, chunk: bytes) -> int | None:
        before = self.total
        self.total += len(chunk)
        if self.offsets and self.total > self.offsets[0]:
            return max(self.offsets.pop(0) - before, 0)
        return None


@given(
    offsets=st.lists(st.integers(3_000, 4_500_000), min_size=1, max_size=4).map(sorted),
    mechanism=st.sampled_from(["kernel", "software"]),
    strategy=st.sampled_from(["post-copy", "hybrid", "three-path"]),
    vcpus=st.sampled_from([1, 2]),
)
@example(offsets=[2**20], mechanism="kernel", strategy="post-copy", vcpus=1)
@example(offsets=[2**20, 2**21], mechanism="software", strategy="post-copy", vcpus=2)
@settings(max_examples=80 if FULL else 6)
def test_cut_anywhere_and_still_verified(
    offsets: list[int], mechanism: str, strategy: str, vcpus: int
) -> None:
    config = CONFIG.model_copy(
        update={
            "faults": mechanism,
            "strategy": strategy,
            "vcpus": vcpus,
            "high": 0.1,
            "postcopy_after": "rounds=1",
        }
    )
    report, error, said, _relay = uvloop.run(moved_through(config, CutOnce(*offsets)))
    runs_there = any("the guest runs here" in line for line in said)
    paused = [event for event in report.events if event.event == "postcopy-paused"]
    if error is None:
        assert report.verified is True
        assert report.guest.runs_at == "dest"
    else:  # the cut came before the hand-over: the guest goes on at the source
        assert not runs_there, (error, said)
        assert report.guest.runs_at in ("source", "nowhere")
    assert not paused or runs_there


def test_a_cut_in_the_push_is_recovered() -> None:
    report, error, said, _relay = uvloop.run(moved_through(CONFIG, CutOnce(1_500_000)))
    assert error is None
    assert report.verified is True
    names = [event.event for event in report.events if event.agent == "source"]
    assert names.count("postcopy-paused") == names.count("postcopy-recovered") == 1
    assert any("the source is back" in line for line in said)


@pytest.mark.parametrize("mechanism", ["kernel", "software"])
def test_a_source_that_never_comes_back(mechanism: str) -> None:
    config = CONFIG.model_copy(update={"recover_timeout": 0.5, "faults": mechanism})
    report, error, said, _relay = uvloop.run(
        moved_through(config, CutOnce(1_500_000), deaf=True, there="the guest is lost in part")
    )
    assert isinstance(error, GuestLostError)
    assert error.exit_code == 4
    assert report.outcome == "lost"
    assert any("the guest is lost in part" in line and "are missing" in line for line in said)


def test_a_source_that_missed_the_end_is_told_while_the_guest_still_runs_there() -> None:
    """Not only when its run is over, which may be long after the source would have given up."""
    told = False

    def cut_back(_sent: int, chunk: bytes) -> int | None:
        nonlocal told
        if told or b"complete" not in chunk:
            return None
        told = True
        return 0

    config = CONFIG.model_copy(update={"run_after": 2.0})
    report, error, _said, _relay = uvloop.run(moved_through(config, cut_back=cut_back))
    assert told
    assert error is None
    assert report.verified is True
    names = [event.event for event in report.events if event.agent == "source"]
    assert names.count("postcopy-recovered") == 1  # told once, it has no reason to come again
    at = {event.event: event.t_ms for event in report.events}
    assert at["completed"] < at["guest-stopped"]
