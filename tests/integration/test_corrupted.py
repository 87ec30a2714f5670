"""Migrations in which something is wrong on purpose are found out; and figures that must agree."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import uvloop

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import EXIT_NOT_VERIFIED, VerificationError
from pageferry.common.guest.lines import scatter
from pageferry.common.guest.machine import Guest
from pageferry.common.report.schema import EventReport, Report
from pageferry.common.strategy.base import RoundStats
from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.dest_agent.precopy.page_placer import ChannelPlacer
from pageferry.source_agent.precopy.batches import RoundPages, SentTotals
from pageferry.source_agent.precopy.page_sender import PageSender
from pageferry.source_agent.precopy.rounds import Round, Rounds, StopResult
from pageferry.source_agent.report.build import make_report
from tests.support.inprocess import listening, move, session_to
from tests.support.known import known
from tests.unit.common.guest.conftest import run_for

MIB = 2**20


def config(**options: Any) -> MigrationConfig:
    values = {
        "memory": 8 * MIB,
        "workload": "uniform:working-set=2MiB,rate=20MB/s",
        "cache": 64 * 1024,
        "strategy": "pre-copy",
        "max_rounds": 2,
        "downtime_limit": 1e-3,  # it is never met: all of the rounds are sent
        "max_bandwidth": float("inf"),
        "warmup": 0.02,
        "run_after": 0.02,
    }
    return MigrationConfig(**values | options)


async def _found_out(settings: MigrationConfig) -> tuple[Report, VerificationError]:
    async with listening() as (_agent, port, _said):
        session = session_to(port, settings)
        with pytest.raises(VerificationError) as caught:
            await session.run()
        return make_report(session.record), caught.value


def is_found_out(settings: MigrationConfig) -> Report:
    report, error = uvloop.run(_found_out(settings))
    assert error.exit_code == EXIT_NOT_VERIFIED == 3
    assert report.verified is False
    assert report.digest_source != report.digest_dest
    assert report.outcome == "completed"
    assert report.guest.runs_at == "dest"
    assert report.error == str(error)
    assert "differs" in str(error)
    return report


SETTINGS = {
    "stop-and-copy": config(strategy="stop-and-copy"),
    "pre-copy": config(),
    "idle": config(workload="idle"),
    "no cache": config(cache=0),
}


class TestWrongOnPurpose:
    @pytest.mark.parametrize("name", SETTINGS)
    def test_as_it_should_be(self, name: str) -> None:
        report = uvloop.run(move(SETTINGS[name]))
        assert report.verified is True
        assert report.error is None

    @pytest.mark.parametrize("name", SETTINGS)
    def test_one_bit_of_memory(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The guest never touches its last page within so short a time."""
        restore = Guest.restore

        def flips(guest: Guest, snap: dict[str, Any]) -> None:
            guest.memory.words[-1] ^= np.uint64(1 << 40)
            restore(guest, snap)

        monkeypatch.setattr(Guest, "restore", flips)
        is_found_out(SETTINGS[name])

    def test_one_bit_of_a_page_that_arrives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        arrived = ChannelPlacer.arrived

        def flips(placer: ChannelPlacer, frame: Any) -> None:
            arrived(placer, frame)
            first, _ = frame.extents.tolist()[0]
            placer.memory.pages[first, 12] ^= np.uint64(1)
            assert placer.written[first]

        monkeypatch.setattr(ChannelPlacer, "arrived", flips)
        is_found_out(SETTINGS["stop-and-copy"])

    def test_a_zero_page_that_is_not_made_zero(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fills(placer: ChannelPlacer, frame: Any) -> None:
            first, _ = frame.extents.tolist()[0]
            placer.memory.pages[first, 0] = 1
            placer.written[first] = True

        monkeypatch.setattr(ChannelPlacer, "zero", fills)
        workload = "uniform:working-set=2MiB,rate=20MB/s,zero-share=50%"
        is_found_out(config(workload=workload, strategy="stop-and-copy"))

    @pytest.mark.parametrize("where", [0, -1])
    @pytest.mark.parametrize("granularity", ["page", "line"])
    def test_a_stale_page_is_left_out_of_the_last_round(
        self, granularity: str, where: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        send_round, stop = PageSender.send_round, Rounds.stop
        stops: list[bool] = []

        def stopping(rounds: Rounds) -> StopResult:
            stops.append(True)
            return stop(rounds)

        def leaves_out(
            page_sender: PageSender, pages: RoundPages, index: int, look: Any = None
        ) -> tuple[SentTotals, RoundPages]:
            if stops and granularity == "page":
                pages = dataclasses.replace(pages, whole=np.delete(pages.whole, where))
            elif stops:
                lined, masks = (
                    np.delete(pages.lined, where),
                    np.delete(pages.masks, where),
                )
                pages = dataclasses.replace(pages, lined=lined, masks=masks)
            return send_round(page_sender, pages, index, look)

        monkeypatch.setattr(Rounds, "stop", stopping)
        monkeypatch.setattr(PageSender, "send_round", leaves_out)
        report = is_found_out(config(granularity=granularity))
        last = report.rounds[-1]
        assert (len(stops), last.kind) == (1, "final")
        assert ((last.line_pages or 0) > 0) == (granularity == "line")

    @pytest.mark.parametrize("bit", [0, 63])
    def test_a_line_is_left_out(self, bit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """The guest writes this line of every page that it visits, and the wire drops it."""

        def drops(words: Any, pages: Any, masks: Any, data: Any) -> int:
            kept = words.reshape(-1, 64, 8)[pages, bit].copy()
            lines = scatter(words, pages, masks, data)
            words.reshape(-1, 64, 8)[pages, bit] = kept
            return lines

        monkeypatch.setattr("pageferry.dest_agent.precopy.page_placer.scatter", drops)
        workload = "uniform:working-set=2MiB,rate=20MB/s,lines=32,scatter=true"
        report = is_found_out(config(workload=workload, max_rounds=4, warmup=0.2))
        assert known(report.lines_sent) > 0

    @pytest.mark.parametrize("word", range(2))
    @pytest.mark.parametrize("name", ["stop-and-copy", "idle"])
    def test_a_changed_register_is_not_verified(
        self, word: int, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """STEPS: it skips a step. SUM: memory is the same, and only the register differs."""
        restore = Guest.restore

        def alters(guest: Guest, snap: dict[str, Any]) -> None:
            states = [np.frombuffer(raw, "<u8").copy() for raw in snap["vcpus"]]
            states[-1][word] += 1
            restore(guest, snap | {"vcpus": [state.tobytes() for state in states]})

        monkeypatch.setattr(Guest, "restore", alters)
        is_found_out(SETTINGS[name])

    def test_the_cache_is_not_drained_before_the_last_pages(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is written back too late never leaves the source."""
        harvest, drain = Guest.harvest, Guest.drain

        def forgets(guest: Guest) -> int:
            lines = drain(guest)
            if guest.state == "paused":
                harvest(guest)
            return lines

        monkeypatch.setattr(Guest, "drain", forgets)
        is_found_out(config(max_rounds=1))


def one(report: Report, agent: str, event: str) -> EventReport:
    (found,) = (each for each in report.events if (each.agent, each.event) == (agent, event))
    return found


class TestFiguresThatAgree:
    @pytest.mark.parametrize("strategy", ["stop-and-copy", "pre-copy", "three-path", "post-copy"])
    def test_downtime_and_its_events(self, strategy: str) -> None:
        report = uvloop.run(move(config(strategy=strategy, vcpus=2, faults="software")))
        paused, resumed = one(report, "source", "paused"), one(report, "dest", "resumed")
        assert report.downtime_ms is not None
        assert report.downtime_ms > 0
        assert report.downtime_ms == pytest.approx(resumed.t_ms - paused.t_ms, abs=0.01)
        completed = one(report, "source", "completed")
        told = one(report, "source", "resumed-there")
        assert report.total_time_ms is not None
        assert resumed.t_ms <= told.t_ms <= report.total_time_ms <= completed.t_ms

    def test_no_vcpu_beats_during_the_downtime(self) -> None:
        report = uvloop.run(move(config(strategy="stop-and-copy", max_bandwidth=50e6)))
        assert report.downtime_ms is not None
        # It stops after its last heartbeat, and its first one there is when it began.
        assert known(report.guest.longest_gap_ms) >= report.downtime_ms - 1e-6

    def test_bytes_over_time_are_the_limit(self) -> None:
        """A rate and the time that it took: whatever else the machine does, both stretch."""
        limit = 5e6
        report = uvloop.run(
            move(config(strategy="stop-and-copy", workload="idle", max_bandwidth=limit))
        )
        assert report.verified is True
        assert report.total_time_ms is not None
        assert report.bytes_on_wire > 8 * MIB
        assert report.bytes_on_wire / (report.total_time_ms / 1e3) == pytest.approx(limit, rel=0.1)

    @pytest.mark.parametrize("granularity", ["page", "line"])
    def test_what_the_destination_received_is_what_the_rounds_sent(self, granularity: str) -> None:
        report = uvloop.run(move(config(granularity=granularity)))
        sent = sum(each.bytes for each in report.rounds)
        assert sent < report.bytes_on_wire < sent + 100_000
        assert report.pages_sent == sum(each.pages for each in report.rounds)
        # Headers: 16 bytes a frame, 8 an extent; a frame is at most 256 pages.
        for each in report.rounds:
            line_pages, lines = each.line_pages or 0, each.lines or 0
            whole = each.pages - line_pages
            content = whole * PAGE_SIZE + lines * LINE_SIZE + line_pages * 12
            assert content < each.bytes <= content + 24 * (each.pages + each.zero_pages) + 16
            saved = line_pages * (PAGE_SIZE + 8) - lines * LINE_SIZE - line_pages * 12
            assert each.bytes_saved == (saved if granularity == "line" else None)
        if granularity == "line":
            assert report.lines_sent == sum(known(each.lines) for each in report.rounds)
            assert known(report.bytes_saved) > 0
        else:  # nobody asked for lines
            assert (report.lines_sent, report.bytes_saved) == (None, None)


class TestHold:
    def test_a_held_cache_keeps_memory_still(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Path 2: in its held round nothing is written to memory but what the cache can't keep."""
        acknowledged = Rounds.acknowledged
        written: dict[int, int] = {}
        spills: dict[int, int] = {}

        def looks(rounds: Rounds, this: Round, elapsed_s: float) -> RoundStats:
            guest = rounds._guest
            run_for(guest, 8000 if this.index == 1 else 1000)
            stats = acknowledged(rounds, this, elapsed_s)
            written[this.index] = int(np.count_nonzero(rounds._stale.masks))
            spills[this.index] = (guest.cache_stats() or {})["spills"]
            return stats

        monkeypatch.setattr(Rounds, "acknowledged", looks)
        settings = config(
            workload="uniform:working-set=4MiB,write-share=20%,rate=200MB/s,scatter=true",
            cache=128 * 1024,
            strategy="three-path",
            low=0.0,
            high=1.0,
            max_rounds=1,
            path3="stop-and-copy",
        )
        report = uvloop.run(move(settings))
        assert report.path == 2
        assert report.verified is True
        assert [each.kind for each in report.rounds] == ["full", "dirty", "drain", "final"]
        _, held, drained, _ = report.rounds
        assert written[1] > 0  # as long as it was not held
        assert spills[1] == 0
        assert written[2] <= spills[2]
        assert held.pages + held.zero_pages >= written[1]
        # What waits in the cache did not go with the held round, and comes with the drain.
        assert held.dirty_pages_after > written[2]
        assert held.drained_lines == 0
        assert known(drained.drained_lines) > 0
