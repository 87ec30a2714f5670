"""A guest that is moved at a random moment, and one that never moves, are the same guest."""

from __future__ import annotations

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from pageferry.common.config.model import MigrationConfig
from pageferry.common.guest.machine import Guest
from tests.support.inprocess import move
from tests.support.tiers import FULL

MIB = 2**20


@st.composite
def configs(draw: st.DrawFn) -> MigrationConfig:
    workload = draw(
        st.sampled_from(
            [
                "idle",
                "web-browsing",
                "matrix-multiply",
                "game-server",
                "io-intensive:rate=40MB/s",
                "memory-intensive",
                "uniform:lines=3,write-share=30%",
                "zipf:skew=1.2,scatter=true",
                "sequential:working-set=2MiB,rate=20MB/s",
                "uniform:zero-share=60%,working-set=10%",
            ]
        )
    )
    vcpus = draw(st.sampled_from([1, 2]))
    ways = draw(st.sampled_from([1, 4, 16]))
    line = draw(st.sampled_from([64, 256, 4096]))
    sets = draw(st.sampled_from([0, 1, 8, 64]))
    return MigrationConfig(
        memory=draw(st.sampled_from([2 * MIB, 5 * MIB, 8 * MIB])),
        vcpus=vcpus,
        workload=workload,
        seed=draw(st.integers(0, 2**32)),
        cache=sets * ways * line * vcpus,
        cache_line=line,
        cache_ways=ways,
        strategy=draw(
            st.sampled_from(
                ["stop-and-copy", "pre-copy", "three-path", "post-copy", "hybrid", "lazy-copy"]
            )
        ),
        path3=draw(st.sampled_from(["stop-and-copy", "post-copy"])),
        postcopy_after=draw(st.sampled_from(["rounds=0", "rounds=2", "time=50ms", "stall"])),
        faults=draw(st.sampled_from(["kernel", "software"])),
        prepage=draw(st.sampled_from(["0", "7", "adaptive"])),
        low=draw(st.sampled_from([0.0, 0.02, 0.1])),
        high=draw(st.sampled_from([0.1, 0.5, 1.0])),
        max_rounds=draw(st.integers(0, 4)),
        downtime_limit=draw(st.sampled_from([0.004, 0.05, 0.3])),
        max_bandwidth=draw(st.sampled_from([50e6, 200e6, float("inf")])),
        warmup=draw(st.floats(0, 0.05)),
        run_after=draw(st.floats(0, 0.05)),
    )


@given(config=configs())
@settings(max_examples=100 if FULL else 10)
def test_a_moved_guest_equals_one_that_never_moved(config: MigrationConfig) -> None:
    report = uvloop.run(move(config))
    assert report.verified is True
    stopped = next(event for event in report.events if event.event == "guest-stopped")
    assert stopped.model_extra is not None
    stayed = Guest(config.guest, boot=True)
    try:
        stayed.start()
        stayed.run_until(stopped.model_extra["steps"])
        stayed.drain()
        if report.postcopy is None or report.postcopy.pages_never_moved == 0:
            assert stayed.digest() == report.digest_dest
    finally:
        stayed.close()
