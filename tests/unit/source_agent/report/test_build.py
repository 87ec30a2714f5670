"""A report of figures that were made up, against what they come to by hand.

The destination's clock is PEER ns ahead of ours (behind it, as that is negative). All times below
are milliseconds since START on our clock, which is what the report counts in.
"""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
import pytest

from pageferry.common.clock import ClockSample
from pageferry.common.config.model import MigrationConfig
from pageferry.common.guest.progress import Beats, Progress
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.rounds import PartName
from pageferry.common.strategy.base import NextRound, RoundKind, RoundStats, StopAndCopy
from pageferry.common.timeline import Timeline
from pageferry.common.wire import messages
from pageferry.common.wire.results import (
    WireBeats,
    WireEvent,
    WireLatency,
    WirePostcopy,
    WireSample,
)
from pageferry.source_agent.measurements import Decided, GuestSeen, Measurements
from pageferry.source_agent.precopy.activity import Activity
from pageferry.source_agent.precopy.batches import SentTotals
from pageferry.source_agent.precopy.rounds import Downtime, Round, Rounds, StopResult
from pageferry.source_agent.precopy.throttling import Throttling
from pageferry.source_agent.report.build import make_report
from tests.support.known import known

SESSION = "0123456789abcdef" * 2
START = 7_000_000_000_000_000  # a host that is up for eighty days: more digits than a float's ns
PEER = -3_141_592_653_589
SAME = "aa" * 16
OTHER = "bb" * 16
MIB = 2**20


def here(ms: float) -> int:
    return START + round(ms * 1e6)


def there(ms: float) -> int:
    """The same moment as the destination's clock reads it."""
    return here(ms) + PEER


def sample(ms: float, round_trip_us: int) -> ClockSample:
    half = round_trip_us * 500
    return ClockSample(here(ms) - half, there(ms), here(ms) + half)


class MadeUpRounds:
    """What the report reads of `Rounds`."""

    def __init__(self) -> None:
        self.pages_resent = 77
        self.unfinished = SentTotals()
        self.activity = Activity(2048)
        nobody: Any = None
        self.throttling = Throttling(nobody, nobody, Timeline("source"), np.zeros(1, np.uint64))
        first = Round(1, RoundKind.FULL, here(1.5), 12, SentTotals(1500, 548, 6_150_000))
        first.end_ns, first.dirty_pages_after = here(61.75), 512
        totals = SentTotals(510, 2, 90_000, 500, 1000, 1_950_000)
        last = Round(2, RoundKind.FINAL, here(64), 5, totals, end_ns=here(70.5))
        self.done = [first, last]


def beats(first: float, last: float, gap: float, gap_start: float) -> Beats:
    return Beats(here(first), here(last), round(gap * 1e6), here(gap_start), here(gap_start + gap))


def wire_beats(first: float, last: float, gap: float, gap_start: float) -> WireBeats:
    return WireBeats(
        first_ns=there(first),
        last_ns=there(last),
        gap_ns=round(gap * 1e6),
        gap_start_ns=there(gap_start),
    )


SOURCE_CACHE = {"hits": 1000, "misses": 200, "write_backs": 30, "spills": 4, "drained_lines": 5}
DEST_CACHE = {"hits": 100, "misses": 20, "write_backs": 3, "spills": 0, "drained_lines": 7}


DOWNTIME: Final[list[tuple[PartName, float]]] = [
    ("pause", 65),
    ("drain", 66.5),
    ("last pages", 70.5),
]


def finished(**changes: Any) -> messages.Finished:
    values: dict[str, Any] = {
        "steps": [6000, 8000],
        "digest": SAME,
        "check": None,
        "cpu_s": 0.375,
        "received_bytes": 8_240_000,
        "beats": [wire_beats(72, 572, 3, 200), wire_beats(73, 570, 2, 300)],
        "cache": DEST_CACHE,
        "samples": [
            WireSample(t_ns=there(80), steps=0, dirtied_pages=0),
            WireSample(t_ns=there(180), steps=1000, dirtied_pages=50),
            WireSample(t_ns=there(380), steps=5000, dirtied_pages=60),
        ],
        "events": [
            WireEvent(t_ns=there(-20), event="ready"),
            WireEvent(t_ns=there(62), event="round-received", fields={"round": 1}),
            WireEvent(t_ns=there(72.5), event="resumed"),
        ],
    }
    return messages.Finished(**values | changes)


STATS = RoundStats(
    index=1,
    kind=RoundKind.FULL,
    pages_total=2048,
    pages_sent=2048,
    bytes_sent=6_150_000,
    duration_s=0.06,
    dirty_pages_after=512,
    remaining_bytes=2_000_000,
    dirty_rate_Bps=3.5e7,
    bandwidth_Bps=1e8,
    switchover_s=0.002,
    elapsed_s=0.07,
)


def record(*, clock: str = "another") -> Measurements:
    """A migration of two rounds of 8 MiB, completed and verified."""
    config = MigrationConfig(memory=8 * MIB, vcpus=2, workload="uniform", strategy="pre-copy")
    out = Measurements(config, SESSION, Timeline("source"))
    out.times.session_start_ns = here(-2000)
    out.times.setup_ns = 123_456_000
    out.times.start_ns = START
    out.times.completed_ns = here(75.25)
    out.times.resumed_peer_ns = there(72.5)
    out.connection.clock_before = sample(-10, 60)
    out.connection.clock_after = sample(90, 100)
    out.connection.peer_welcome = messages.Welcome(version="1", host="elsewhere", clock=clock)
    out.guest.boot_progress = Progress(here(-1000), 100, 10)
    out.guest.start_progress = Progress(here(0), 2100, 30)
    out.guest.source_samples = [
        Progress(here(-100), 1900, 20),
        Progress(here(0), 2100, 30),
        Progress(here(50), 2200, 130),
    ]
    out.guest.seen = GuestSeen(
        Progress(here(66), 4080, 99), [beats(-999, 64, 5, 20), beats(-998, 65, 6, 30)], SOURCE_CACHE
    )
    out.precopy.decisions = [
        Decided(None, NextRound(RoundKind.FULL, True, False, "to begin with")),
        Decided(STATS, StopAndCopy("it fits")),
    ]
    rounds = MadeUpRounds()
    out.precopy.rounds = cast(Rounds, rounds)
    downtime = Downtime(here(64.5))
    for part, ms in DOWNTIME:
        downtime.ended(part, here(ms))
    out.precopy.final = StopResult(rounds.done[-1], downtime, {})
    out.result.finished = finished()
    out.result.digest_source = SAME
    out.connection.handshake_bytes = 1
    out.connection.control_bytes = 20
    out.connection.bulk_bytes = 300
    out.postcopy.urgent_bytes = 4000
    out.times.cpu_s = 0.25
    out.outcome = "completed"
    for ms, event in ((-1990, "connect"), (0, "migration-start"), (63, "paused"), (74, "done")):
        out.timeline.log(event, t_ns=here(ms), at=ms)
    return out


class TestTimes:
    def test_parts_of_the_downtime_follow_one_another(self) -> None:
        parts = make_report(record()).downtime_parts
        assert [part.name for part in parts] == [*(name for name, _ms in DOWNTIME), "resume"]
        assert [part.ms for part in parts] == pytest.approx([0.5, 1.5, 4.0, 2.0])
        assert [part.start_ms for part in parts] == pytest.approx([0.0, 0.5, 2.0, 6.0])

    def test_downtime_with_another_clock(self) -> None:
        report = make_report(record())
        assert report.downtime_ms == pytest.approx(8.0, abs=1e-9)  # 72.5 - 64.5
        assert report.downtime_error_ms == pytest.approx(0.05)  # half of the longer round trip

    def test_downtime_when_the_clock_drifts(self) -> None:
        made = record()
        before, after = sample(-10, 60), sample(90, 60)
        made.connection.clock_before = before
        made.connection.clock_after = ClockSample(after.t0, after.peer + 2_000_000, after.t1)
        # The peer's clock gains 2 ms within 102 ms of its own, from -10 on.
        made.times.resumed_peer_ns = there(41)
        assert make_report(made).downtime_ms == pytest.approx(41 - 1.0 - 64.5, abs=1e-5)
        assert make_report(made).downtime_error_ms == pytest.approx(0.03)

    def test_downtime_with_the_first_sample_alone(self) -> None:
        made = record()
        made.connection.clock_after = None
        report = make_report(made)
        assert report.downtime_ms == pytest.approx(8.0, abs=1e-9)
        assert report.downtime_error_ms == pytest.approx(0.03)

    def test_downtime_on_one_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pageferry.source_agent.measurements.clock_identity", lambda: "one")
        made = record(clock="one")
        made.connection.clock_before, made.connection.clock_after = (
            ClockSample(here(ms), here(ms) + 30_000, here(ms) + 60_000) for ms in (-10, 90)
        )
        made.times.resumed_peer_ns = here(72.5)
        report = make_report(made)
        assert report.downtime_ms == pytest.approx(8.0, abs=1e-9)
        assert report.downtime_error_ms == 0.0

    def test_downtime_on_two_clocks_that_are_called_the_same(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on machines that were cloned: the samples say otherwise, and they are right."""
        monkeypatch.setattr("pageferry.source_agent.measurements.clock_identity", lambda: "one")
        report = make_report(record(clock="one"))
        assert report.downtime_ms == pytest.approx(8.0, abs=1e-9)
        assert report.downtime_error_ms == pytest.approx(0.05)

    def test_no_downtime_without_a_stop_or_a_resume(self) -> None:
        for group, name in (
            ("times", "resumed_peer_ns"),
            ("precopy", "final"),
            ("connection", "clock_before"),
            ("connection", "peer_welcome"),
        ):
            made = record()
            setattr(getattr(made, group), name, None)
            report = make_report(made)
            assert report.downtime_ms is None, name
            assert report.downtime_error_ms is None, name

    def test_total_and_set_up(self) -> None:
        made = record()
        report = make_report(made)
        assert report.total_time_ms == pytest.approx(75.25, abs=1e-9)
        assert report.setup_ms == pytest.approx(123.456)
        made.times.completed_ns, made.times.setup_ns = None, 0
        report = make_report(made)
        assert report.total_time_ms is None
        assert report.setup_ms is None


class TestTransfer:
    def test_bytes_of_every_connection_count(self) -> None:
        assert make_report(record()).bytes_on_wire == 4321

    @pytest.mark.parametrize("part", ["handshake", "control", "bulk", "urgent"])
    def test_bytes_of_each_connection_count_by_themselves(self, part: str) -> None:
        made = record()
        for name in ("handshake", "control", "bulk", "urgent"):
            where = made.postcopy if name == "urgent" else made.connection
            setattr(where, f"{name}_bytes", 9 if name == part else 0)
        assert make_report(made).bytes_on_wire == 9

    def test_pages_of_post_copy_are_counted_too(self) -> None:
        made = record()
        made.postcopy.pushed, made.postcopy.pulled, made.postcopy.supplied_zeros = (
            10_000,
            200_000,
            3_000_000,
        )
        report = make_report(made)
        assert report.pages_sent == 1500 + 510 + 10_000 + 200_000
        assert report.zero_pages == 548 + 2 + 3_000_000
        assert report.pages_resent == 77

    def test_rounds_are_reported_as_they_were_measured(self) -> None:
        first, last = make_report(record()).rounds
        assert first.model_dump() == {
            "index": 1,
            "kind": "full",
            "pages": 1500,
            "zero_pages": 548,
            "line_pages": 0,
            "lines": 0,
            "bytes_saved": 0,
            "delta_pages": None,  # not asked for
            "drained_lines": 12,
            "bytes": 6_150_000,
            "start_ms": pytest.approx(1.5),
            "duration_ms": pytest.approx(60.25),
            "dirty_pages_after": 512,
            "dirty_ratio_after": 0.25,  # of 2048
            "throttle": None,
            "pages_left": 0,
        }
        assert (last.index, last.kind, last.drained_lines) == (2, "final", 5)
        assert (last.pages, last.zero_pages, last.bytes) == (510, 2, 90_000)
        assert (last.line_pages, last.lines, last.bytes_saved) == (500, 1000, 1_950_000)
        assert [last.start_ms, last.duration_ms] == pytest.approx([64, 6.5])
        assert (last.dirty_pages_after, last.dirty_ratio_after) == (0, 0.0)

    def test_nothing_is_said_of_what_was_not_asked_for(self) -> None:
        report = make_report(record())
        assert report.compression is None
        assert report.xbzrle is None

    def test_a_round_that_never_ended(self) -> None:
        made = record()
        assert made.precopy.final is not None
        assert made.precopy.final.round is not None
        made.precopy.final.round.end_ns = 0
        assert make_report(made).rounds[-1].duration_ms == 0.0

    def test_decisions_are_reported_with_what_they_were_made_from(self) -> None:
        first, second = make_report(record()).decisions
        assert (first.after_round, first.decision) == (0, "NextRound(full)")
        assert (first.reason, first.dirty_pages) == ("to begin with", None)
        assert second.model_dump() == {
            "after_round": 1,
            "dirty_pages": 512,
            "dirty_ratio": 0.25,
            "dirty_rate": 3.5e7,
            "bandwidth": 1e8,
            "expected_remainder_bytes": 2_000_000,
            "expected_downtime_ms": pytest.approx(22.0),  # 2 MB at 100 MB/s, and 2 ms
            "decision": "StopAndCopy",
            "reason": "it fits",
        }


class TestGuest:
    def test_speeds_before_during_and_after_add_up_to_all_steps(self) -> None:
        guest = make_report(record()).guest
        assert guest.steps_before == 2000
        assert guest.steps_per_s_before == pytest.approx(2000.0)  # in 1 s
        assert guest.steps_during == 1980
        assert guest.steps_per_s_during == pytest.approx(30_000.0)  # in 66 ms
        assert guest.steps_after == 6000 + 8000 - 4080
        assert guest.steps_per_s_after == pytest.approx(9920 / 0.4995)  # from 72.5 to 572
        assert guest.check is None

    def test_a_guest_that_did_not_move(self) -> None:
        made = record()
        made.result.finished = None
        guest = make_report(made).guest
        assert guest.steps_during == 1980
        assert (guest.steps_after, guest.steps_per_s_after) == (None, None)
        assert (guest.slowed_ms, guest.throttle_peak) == (None, None)
        assert {each.where for each in guest.timeline} == {"source"}
        assert (guest.longest_gap_ms, guest.longest_gap_start_ms) == (6.0, 30.0)

    def test_no_time_gives_no_speed(self) -> None:
        made = record()
        made.guest.start_progress = made.guest.boot_progress
        guest = make_report(made).guest
        assert (guest.steps_before, guest.steps_per_s_before) == (0, None)

    def test_the_hand_over_is_the_longest_gap(self) -> None:
        guest = make_report(record()).guest
        # vCPU 0: 64 to 72; vCPU 1: 65 to 73.
        assert guest.longest_gap_ms == pytest.approx(8.0, abs=1e-9)
        assert guest.longest_gap_start_ms == pytest.approx(65.0, abs=1e-9)

    @pytest.mark.parametrize("vcpu", [0, 1])
    def test_the_hand_over_of_either_vcpu(self, vcpu: int) -> None:
        made = record()
        firsts = [72.0, 72.0]
        firsts[vcpu] = 76.0
        made.result.finished = finished(beats=[wire_beats(first, 570, 2, 300) for first in firsts])
        guest = make_report(made).guest
        assert guest.longest_gap_ms == pytest.approx(76 - (64, 65)[vcpu], abs=1e-9)
        assert guest.longest_gap_start_ms == pytest.approx((64, 65)[vcpu], abs=1e-9)

    @pytest.mark.parametrize("vcpu", [0, 1])
    def test_the_longest_gap_at_the_source(self, vcpu: int) -> None:
        made = record()
        assert made.guest.seen is not None
        gaps = [beats(-999, 64, 5, 20), beats(-998, 65, 6, 30)]
        gaps[vcpu] = beats(-999, 64 + vcpu, 12.5, 40)
        made.guest.seen = GuestSeen(made.guest.seen.progress, gaps, None)
        guest = make_report(made).guest
        assert guest.longest_gap_ms == pytest.approx(12.5)
        assert guest.longest_gap_start_ms == pytest.approx(40)

    @pytest.mark.parametrize("vcpu", [0, 1])
    def test_the_longest_gap_at_the_destination(self, vcpu: int) -> None:
        made = record()
        gaps = [wire_beats(72, 572, 3, 200), wire_beats(73, 570, 2, 300)]
        gaps[vcpu] = wire_beats(72 + vcpu, 572, 20.25, 400)
        made.result.finished = finished(beats=gaps)
        guest = make_report(made).guest
        assert guest.longest_gap_ms == pytest.approx(20.25)
        assert guest.longest_gap_start_ms == pytest.approx(400, abs=1e-9)

    def test_the_last_heartbeat_of_all_ends_the_time_after(self) -> None:
        made = record()
        made.result.finished = finished(
            beats=[wire_beats(72, 100, 3, 80), wire_beats(73, 1072.5, 2, 300)]
        )
        assert make_report(made).guest.steps_per_s_after == pytest.approx(9920.0)

    def test_the_guests_own_check(self) -> None:
        made = record()
        made.result.finished = finished(check="vCPU 1: a wrong sum")
        assert make_report(made).guest.check == "vCPU 1: a wrong sum"

    def test_the_timeline_joins_both_hosts_samples(self) -> None:
        timeline = make_report(record()).guest.timeline
        assert [each.where for each in timeline] == ["source", "source", "dest", "dest"]
        assert [each.t_ms for each in timeline] == pytest.approx([0, 50, 180, 380], abs=1e-9)
        speeds = [each.steps_per_s for each in timeline]
        assert speeds == pytest.approx([2000.0, 2000.0, 10_000.0, 20_000.0])
        dirtied = [each.dirty_pages_per_s for each in timeline]
        assert dirtied == pytest.approx([100.0, 2000.0, 500.0, 50.0])

    def test_two_samples_of_one_moment(self) -> None:
        made = record()
        made.guest.source_samples = [Progress(here(5), 1, 1), Progress(here(5), 2, 2)]
        assert all(each.where == "dest" for each in make_report(made).guest.timeline)

    def test_the_report_says_where_the_guest_runs(self) -> None:
        made = record()
        assert make_report(made).guest.runs_at == "dest"
        made.guest.goes_on = True
        assert make_report(made).guest.runs_at == "dest"
        made.times.completed_ns, made.outcome = None, "failed"
        assert make_report(made).guest.runs_at == "source"
        made.guest.goes_on = False
        assert make_report(made).guest.runs_at == "nowhere"
        made.outcome = "in-doubt"
        assert make_report(made).guest.runs_at == "unknown"


class TestVerdict:
    @pytest.mark.parametrize(
        ("at_source", "at_dest", "verdict"),
        [
            (SAME, SAME, True),
            (OTHER, SAME, False),
            (SAME, OTHER, False),
            (SAME, None, False),
            (None, SAME, None),
            (None, None, None),
        ],
    )
    def test_a_run_is_verified_where_the_digests_are_equal(
        self, at_source: str | None, at_dest: str | None, verdict: bool | None
    ) -> None:
        made = record()
        made.result.digest_source = at_source
        made.result.finished = finished(digest=at_dest)
        report = make_report(made)
        assert report.verified is verdict
        assert (report.digest_source, report.digest_dest) == (at_source, at_dest)

    def test_a_digest_with_nothing_to_compare(self) -> None:
        made = record()
        made.result.finished = None
        report = make_report(made)
        assert report.verified is None
        assert report.digest_dest is None

    def test_the_outcome_is_reported_with_its_error(self) -> None:
        made = record()
        made.ended("in-doubt", "no answer")
        report = make_report(made)
        assert (report.outcome, report.error) == ("in-doubt", "no answer")
        assert (report.session, report.strategy, report.path) == (SESSION, "pre-copy", None)
        assert report.config["dest_host"] == "elsewhere"
        assert report.config["memory"] == 8 * MIB


class TestCosts:
    def test_caches_of_both_hosts(self) -> None:
        cache = make_report(record()).cache
        assert cache is not None
        assert cache.model_dump() == {
            "hits": 1100,
            "misses": 220,
            "write_backs": 33,
            "spills": 4,
            "drained_lines": 12,
        }

    def test_one_cache_or_none(self) -> None:
        made = record()
        made.result.finished = None
        cache = make_report(made).cache
        assert cache is not None
        assert cache.model_dump() == SOURCE_CACHE
        made.guest.seen, made.result.finished = None, finished()
        cache = make_report(made).cache
        assert cache is not None
        assert cache.model_dump() == DEST_CACHE
        made.result.finished = finished(cache=None)
        assert make_report(made).cache is None

    def test_cpu_time_is_null_where_it_was_not_measured(self) -> None:
        made = record()
        cpu = make_report(made).cpu_s
        assert cpu is not None
        assert (cpu.source, cpu.dest) == (0.25, 0.375)
        made.result.finished = None
        cpu = make_report(made).cpu_s
        assert cpu is not None
        assert (cpu.source, cpu.dest) == (0.25, None)
        made.times.cpu_s = None
        assert make_report(made).cpu_s is None

    def test_the_vcpus_cpu_time_is_not_the_agents(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = record()
        monkeypatch.setattr("pageferry.source_agent.measurements.time.process_time", lambda: 10.0)
        made.started(Progress(START, 0, 0), vcpu_cpu_s=4.0, counts=None)
        monkeypatch.setattr("pageferry.source_agent.measurements.time.process_time", lambda: 13.0)
        made.completed(vcpu_cpu_s=6.5)
        cpu = make_report(made).cpu_s
        assert cpu is not None
        assert cpu.source == pytest.approx(0.5)  # 3 s, of which vCPUs took 2.5


class TestEvents:
    @staticmethod
    def seen(report: Report) -> list[tuple[float, str, str]]:
        return [(round(each.t_ms, 6), each.agent, each.event) for each in report.events]

    def test_both_agents_on_one_axis_in_order(self) -> None:
        report = make_report(record())
        assert self.seen(report) == [
            (-1990.0, "source", "connect"),
            (-20.0, "dest", "ready"),
            (0.0, "source", "migration-start"),
            (62.0, "dest", "round-received"),
            (63.0, "source", "paused"),
            (72.5, "dest", "resumed"),
            (74.0, "source", "done"),
        ]
        assert report.events[0].model_extra == {"at": -1990}
        assert report.events[3].model_extra == {"round": 1}

    def test_before_it_started_the_session_is_the_axis(self) -> None:
        made = record()
        made.times.start_ns = 0
        made.result.finished = None
        assert self.seen(make_report(made))[0] == (10.0, "source", "connect")

    def test_without_a_clock_there_is_one_agent(self) -> None:
        made = record()
        made.connection.clock_before = None
        assert {each.agent for each in make_report(made).events} == {"source"}


def test_a_session_that_never_connected() -> None:
    bare = Measurements(MigrationConfig(), SESSION, Timeline("source"))
    report = make_report(bare)
    assert (report.outcome, report.rounds, report.bytes_on_wire) == ("failed", [], 0)
    assert (report.cache, report.cpu_s, report.postcopy, report.verified) == (None,) * 4
    assert report.guest.longest_gap_start_ms is None


def test_what_a_failed_round_had_sent_was_sent() -> None:
    made = record()
    before = make_report(made)
    cast(MadeUpRounds, made.precopy.rounds).unfinished = SentTotals(
        300, 40, 1_200_000, lines=5, bytes_saved=7
    )
    report = make_report(made)
    assert report.pages_sent == before.pages_sent + 300
    assert report.zero_pages == before.zero_pages + 40
    assert report.lines_sent == known(before.lines_sent) + 5
    assert report.bytes_saved == known(before.bytes_saved) + 7


def test_figures_of_post_copy_are_reported() -> None:
    made = record()
    made.config = made.config.model_copy(update={"trace_faults": True})
    made.connection.ready = messages.Ready(faults="software", faults_reason="asked for")
    made.result.finished = finished(
        postcopy=WirePostcopy(
            faults=9,
            zero_fills=8,
            pages_pulled=7,
            pages_pushed=6,
            duplicates=5,
            missing=b"\x05\x80",
            latency_us=WireLatency(p50=1.0, p90=2.0, p99=3.0, p999=4.0, max=5.0),
            latencies=[(36, 2), (40, 7)],
            missing_over_time=[(there(73), 100), (there(74), 3)],
            trace=[(there(73.5), 42.0, 17, 1)],
        )
    )
    part = make_report(made).postcopy
    assert part is not None
    assert (part.mechanism, part.mechanism_reason) == ("software", "asked for")
    assert (part.faults, part.zero_fills, part.pages_pulled) == (9, None, 7)  # not seen there
    assert (part.pages_pushed, part.duplicates, part.pages_never_moved) == (6, 5, 3)
    assert part.duration_ms == pytest.approx(2.75, abs=1e-9)  # 72.5 to 75.25
    assert [each.pages for each in part.missing] == [100, 3]
    assert [each.t_ms for each in part.missing] == pytest.approx([73, 74], abs=1e-9)
    (fault,) = known(part.trace)
    assert (fault.us, fault.page, fault.vcpu) == (42.0, 17, 1)
    assert fault.t_ms == pytest.approx(73.5, abs=1e-9)
    assert [each.faults for each in part.fault_counts] == [2, 7]
    assert part.fault_counts[0].from_us == pytest.approx(1.0)
    assert part.fault_latency_us is not None
    assert part.fault_latency_us.model_dump() == {
        "p50": 1.0, "p90": 2.0, "p99": 3.0, "p999": 4.0, "max": 5.0, "within_us": 0.0,
    }  # fmt: skip
