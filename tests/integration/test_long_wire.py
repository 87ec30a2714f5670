"""A wire with a long round trip: nothing waits for a round trip a page."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from pageferry.common.config.model import MigrationConfig
from tests.support.known import known
from tests.support.through_relay import moved_through

ONE_WAY_S = 0.01
CONFIG = MigrationConfig(
    memory=2**25,
    workload="zipf:working-set=50%,rate=20MB/s",
    max_bandwidth=1e8,
    warmup=0.02,
    run_after=0.05,
)
# A page at a time, 8,192 pages would take 164 s.
LIMIT_S = 40.0


@pytest.mark.parametrize("strategy", ["post-copy", "hybrid", "pre-copy"])
def test_pages_are_a_stream(strategy: str) -> None:
    config = CONFIG.model_copy(update={"strategy": strategy})

    async def run() -> None:
        async with asyncio.timeout(LIMIT_S):
            report, error, _said, _relay = await moved_through(config, delay_s=ONE_WAY_S)
        assert error is None
        assert report.verified is True
        if report.postcopy is not None and report.postcopy.fault_latency_us is not None:
            # The wire is as long as it was said to be: a fault takes a round trip.
            assert known(report.postcopy.fault_latency_us.max) >= 2 * ONE_WAY_S * 1e6

    uvloop.run(run())
