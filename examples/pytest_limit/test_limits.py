"""Tests that migrate a guest of yours, and fail when a figure is over its limit.

    pytest examples/pytest_limit

pytest finds the fixtures by itself where pageferry is installed. A miss fails the test in one line:
`pageferry: downtime_ms was 74.1, its limit is 50 (pre-copy · zipf:rate=40MB/s · 16MiB)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pageferry.pytest_plugin import Destination, Link, Migrate

WORKLOAD = "zipf:working-set=50%,rate=20MB/s"


@pytest.mark.pageferry(downtime_ms=1_000, total_time_ms=30_000, rounds=12)
def test_the_guest_hardly_stops(pageferry_migrate: Migrate) -> None:
    """Every migration of a test is held to its limits. These leave room for a busy machine."""
    report = pageferry_migrate(workload=WORKLOAD, strategy="pre-copy", downtime_limit="50ms")
    assert report.verified


@pytest.mark.pageferry(bytes_on_wire=20_000_000)
def test_each_page_travels_once(pageferry_dest: Destination) -> None:
    """The guest has 16 MiB, unless a test says otherwise."""
    report = pageferry_dest.migrate(workload=WORKLOAD, strategy="stop-and-copy")
    assert report.pages_resent == 0


@pytest.mark.pageferry(total_time_ms=30_000)
def test_over_a_slow_link(pageferry_migrate: Migrate, pageferry_link: Link) -> None:
    """Namespaces as root, else a relay: 16 MiB take more than a second at 100 Mbit/s."""
    link = pageferry_link("rate=100mbit,delay=2ms")
    report = pageferry_migrate(**link, workload=WORKLOAD, strategy="post-copy")
    assert report.total_time_ms is not None
    assert report.total_time_ms > 1_000
