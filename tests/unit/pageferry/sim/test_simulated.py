"""Whole migrations in virtual time: bounds that no strategy can break, and a report like any."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import UsageError
from pageferry.common.html import render
from pageferry.common.report.schema import Report
from pageferry.common.strategy import REGISTRY
from pageferry.sim.conditions import simulated_conditions
from pageferry.sim.link import SimulatedLink
from pageferry.sim.reporting import make_simulated_report, play
from tests.support.known import known

WORKLOADS = (
    "idle",
    "web-browsing",
    "matrix-multiply",
    "game-server",
    "io-intensive",
    "memory-intensive",
    "uniform:rate=40MB/s,lines=4",
    "zipf:rate=100MB/s",
    "sequential:working-set=10%,rate=20MB/s,zero-share=30%",
)


def report_of(link: SimulatedLink | None = None, **values: Any) -> Report:
    config = MigrationConfig.model_validate({"memory": "256MiB", **values})
    return make_simulated_report(
        play(config, simulated_conditions(config, link or SimulatedLink())), {}
    )


def total(report: Report) -> tuple[float, float]:
    assert report.total_time_ms is not None
    assert report.downtime_ms is not None
    return report.total_time_ms, report.downtime_ms


@settings(deadline=None, max_examples=40)
@given(
    strategy=st.sampled_from(sorted(REGISTRY)),
    workload=st.sampled_from(WORKLOADS),
    pages=st.integers(4096, 2**28),
    vcpus=st.sampled_from([1, 2, 4]),
    rate=st.floats(1e6, 1e11),
    delay=st.floats(0, 0.2),
    loss=st.floats(0, 0.05),
    cache=st.sampled_from([0, 4 * 2**20]),
    slowing=st.sampled_from([{}, {"auto_converge": True}, {"dirty_limit": 1e6}]),
)
def test_a_simulated_report_is_within_what_the_link_allows(
    strategy: str, workload: str, pages: int, vcpus: int, **link: Any
) -> None:
    slowing, cache = link.pop("slowing"), link.pop("cache")
    report = report_of(
        SimulatedLink(**link),
        strategy=strategy,
        workload=workload,
        memory=4096 * pages,
        vcpus=vcpus,
        max_bandwidth=math.inf,
        cache=cache,
        **slowing,
    )
    total_ms, downtime_ms = total(report)
    assert total_ms >= downtime_ms > 0
    rate = SimulatedLink(**link).carries("cubic")
    assert total_ms >= report.bytes_on_wire / rate * 1e3 * 0.999
    if strategy != "lazy-copy":
        assert report.bytes_on_wire >= report.oracle.least_bytes * 0.99  # type: ignore[union-attr]
        sent = report.pages_sent + report.zero_pages
        assert sent == pytest.approx(pages + report.pages_resent, rel=0.01, abs=2)
    parts = sum(part.ms for part in report.downtime_parts)
    assert parts == pytest.approx(downtime_ms, rel=1e-6)
    for each in report.rounds:
        assert each.pages + each.zero_pages <= pages
        assert each.dirty_pages_after <= pages
    assert Report.model_validate_json(report.to_json()) == report


@given(st.sampled_from(WORKLOADS), st.floats(1e6, 1e10), st.floats(1e6, 1e10), st.floats(0, 0.1))
def test_more_bandwidth_never_makes_a_stop_and_copy_slower(
    workload: str, one: float, other: float, delay: float
) -> None:
    slow, fast = sorted((one, other))
    link = SimulatedLink(delay=delay)
    values: dict[str, Any] = {"workload": workload, "strategy": "stop-and-copy"}
    slower = total(report_of(link, max_bandwidth=slow, **values))
    faster = total(report_of(link, max_bandwidth=fast, **values))
    assert faster[0] <= slower[0] * (1 + 1e-9)
    assert faster[1] <= slower[1] * (1 + 1e-9)


def test_stop_and_copy_is_its_bytes_at_the_rate() -> None:
    report = report_of(strategy="stop-and-copy")
    assert total(report)[0] == pytest.approx(256 * 2**20 / 1e8 * 1e3, rel=0.01)
    assert [each.kind for each in report.rounds] == ["final"]


class TestDelay:
    """64 MiB at 10 MB/s with a round trip of 100 ms: a megabyte fills it."""

    LINK = SimulatedLink(rate=1e7, delay=0.05)
    SLOW_S = LINK.slow_start_s(64 * 2**20, 0, 1e7)

    def report(self, link: SimulatedLink | None = None, **values: Any) -> Report:
        options: dict[str, Any] = {"memory": "64MiB", "max_bandwidth": math.inf}
        return report_of(link or self.LINK, **(options | values))

    def test_the_source_hears_of_the_resume_half_a_round_trip_later(self) -> None:
        total_ms, downtime_ms = total(self.report(strategy="stop-and-copy"))
        assert total_ms - downtime_ms == pytest.approx(50, abs=0.01)
        least_ms = 64 * 2**20 / 1e7 * 1e3
        assert downtime_ms == pytest.approx(least_ms + self.SLOW_S * 1e3 + 50, abs=10)

    def test_only_the_first_round_starts_slowly(self) -> None:
        """What a round takes beyond its bytes is a round trip."""
        load = "uniform:rate=20MB/s,lines=64"
        report = self.report(strategy="pre-copy", workload=load, downtime_limit="10ms")
        beyond = [each.duration_ms - each.bytes / 1e4 for each in report.rounds[:-1]]
        assert beyond[0] == pytest.approx(self.SLOW_S * 1e3 + 100, abs=5)
        assert beyond[1:] == pytest.approx([100] * len(beyond[1:]), abs=5)
        assert len(beyond) > 2

    def test_the_bandwidth_that_decides_is_what_the_round_took_for_its_bytes(self) -> None:
        report = self.report(strategy="pre-copy", workload="uniform:rate=1MB/s")
        first = report.rounds[0]
        seen = report.decisions[1].bandwidth
        sending_ms = first.duration_ms - 2 * 50  # without the way of its answer
        assert seen == pytest.approx(first.bytes / sending_ms * 1e3, rel=1e-3)
        assert (seen or 0) < 0.97e7  # but with a connection's slow start

    def test_pages_come_one_and_a_half_round_trips_after_a_switch(self) -> None:
        """Until the source hears of it, on their way, and the word that all are there."""
        report = self.report(strategy="post-copy")
        assert report.postcopy is not None
        bytes_ms = report.bytes_on_wire / 1e4
        assert report.postcopy.duration_ms == pytest.approx(
            bytes_ms + self.SLOW_S * 1e3 + 150, abs=5
        )

    def test_a_limit_below_the_link_leaves_no_queue_to_wait_in(self) -> None:
        def latency_ms(**values: Any) -> float:
            load: dict[str, Any] = {"strategy": "post-copy", "workload": "uniform:rate=400kB/s"}
            postcopy = self.report(**load, **values).postcopy
            assert postcopy is not None
            assert postcopy.fault_latency_us is not None
            return postcopy.fault_latency_us.p50 / 1e3

        assert latency_ms(max_bandwidth=9e6) == pytest.approx(100, abs=1)
        queue_ms = self.LINK.standing_s("cubic") * 1e3
        assert latency_ms() == pytest.approx(100 + queue_ms, abs=1)
        assert queue_ms > 50

    def test_a_map_of_missing_pages_starts_slowly_too(self) -> None:
        """Of half of 1 GiB it is 32 KiB, more than the first window; of all pages it is nothing."""
        config = MigrationConfig.model_validate({"max_bandwidth": math.inf})
        under = simulated_conditions(config, self.LINK)
        whole, half = (under.switch_parts(config.pages * share) for share in (1.0, 0.5))
        part = "snapshot and commit"
        sending_s = 32 * 1024 / 1e7
        waiting_s = 0.1 + (1448 - 14480) / 1e7
        assert half[part] - whole[part] == pytest.approx(sending_s + waiting_s)

    def test_a_limit_catches_up_on_a_short_slow_start(self) -> None:
        """As far as a socket holds what could not go, and a late sender is forgiven."""
        values: dict[str, Any] = {"strategy": "stop-and-copy", "max_bandwidth": 1e7}
        near, far = SimulatedLink(rate=1e9, delay=0.001), SimulatedLink(rate=1e9, delay=0.1)
        at_once = total(self.report(SimulatedLink(rate=1e9), **values))[1]
        assert total(self.report(near, **values))[1] - at_once == pytest.approx(1, abs=0.1)
        late = far.slow_start_s(64 * 2**20, 0, 1e7) - 0.015 - 128 * 1024 / 1e7
        assert total(self.report(far, **values))[1] - at_once == pytest.approx(
            100 + late * 1e3, abs=1
        )


def test_post_copy_hands_over_at_once_and_is_slow_afterwards() -> None:
    report = report_of(strategy="post-copy", workload="memory-intensive")
    assert total(report)[1] < 10
    assert report.postcopy is not None
    assert report.postcopy.faults > 10_000
    assert report.postcopy.pages_pulled + report.postcopy.pages_pushed == pytest.approx(
        65536, abs=9
    )
    assert 0.2 < (report.guest.lost or 0) < 1


def test_lazy_copy_moves_what_the_guest_touches() -> None:
    report = report_of(strategy="lazy-copy", workload="uniform:working-set=1MiB,rate=40MB/s")
    assert report.postcopy is not None
    assert report.postcopy.pages_pulled == pytest.approx(256, abs=1)
    assert report.postcopy.pages_never_moved == pytest.approx(65536 - 256, abs=1)
    assert total(report)[0] == pytest.approx(1000, abs=10)  # --run-after


def test_three_paths_as_the_paper_expects_them() -> None:
    paths = [report_of(workload=name).path for name in WORKLOADS[:4]]
    assert paths == [1, 1, 2, 3]


def test_a_guest_that_never_converges_does_so_when_it_is_slowed_down() -> None:
    load: dict[str, Any] = {
        "strategy": "pre-copy",
        "workload": "uniform:rate=200MB/s,lines=64",
        "downtime_limit": "50ms",
    }
    never = report_of(**load)
    assert len(never.rounds) == 11
    slowed = report_of(**load, auto_converge=True)
    assert total(slowed)[1] < total(never)[1] / 4
    assert known(slowed.guest.throttle_peak) > 0.5
    limited = report_of(**load, dirty_limit="20MB/s")
    assert total(limited)[1] < 50
    assert (limited.guest.lost or 0) > 0.5


def test_the_cache_is_what_lets_pages_travel_as_lines() -> None:
    load: dict[str, Any] = {
        "workload": "uniform:rate=40MB/s,working-set=50%",
        "strategy": "pre-copy",
    }
    by_line, by_page = report_of(**load), report_of(**load, cache=0)
    assert known(by_line.bytes_saved) > 0
    assert by_line.bytes_on_wire < by_page.bytes_on_wire
    assert (by_page.bytes_saved, by_page.lines_sent) == (None, None)


def test_zero_pages_are_marks() -> None:
    report = report_of(workload="sequential:rate=1MB/s,working-set=1MiB,zero-share=50%")
    assert report.pages_resent < 2 * 256
    assert report.zero_pages == pytest.approx(32768, rel=0.01)
    assert report.bytes_on_wire == pytest.approx(128 * 2**20, rel=0.02)


def test_a_tebibyte_costs_no_more_than_a_gibibyte() -> None:
    """What a simulation does grows with rounds and classes of pages, never with pages."""
    report = report_of(
        memory="1TiB", max_bandwidth="100gbit", workload="zipf:rate=10GB/s", strategy="hybrid"
    )
    assert total(report)[0] == pytest.approx(2**40 / 12.5e9 * 1e3, rel=0.5)


def test_a_link_without_an_end_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing limits the link"):
        report_of(max_bandwidth=math.inf)


@pytest.mark.parametrize("strategy", sorted(REGISTRY))
def test_an_html_page_can_be_made_of_it(strategy: str) -> None:
    page = render([report_of(strategy=strategy)], title="simulated", labels=["one"])
    assert "three-path" in page or strategy in page
