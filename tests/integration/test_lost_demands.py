"""A demand that is lost is not waited for as long as TCP waits by default."""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
import subprocess

import pytest

from tests.support.command_line import pageferry
from tests.support.running import destination, running
from tests.support.tiers import FULL

TCP_RTO_MIN_US = 45  # Python has no name for it
LEAST_MS = 200.0  # that TCP waits by default before it sends anything again
ROUND_TRIP_MS = 20.0
LOOKS = 100
FAULTING = (
    *("--strategy", "post-copy", "--cache", "0", "--max-bandwidth", "5MB/s"),
    *("--workload", "uniform:working-set=50%,rate=40MB/s"),
)
SLOW = (
    *("--memory", "16MiB", "--warmup", "100ms", "--run-after", "100ms"),
    *("--strategy", "post-copy", "--cache", "0", "--max-bandwidth", "10MB/s"),
    *("--workload", "uniform:working-set=100%,rate=1MB/s"),
)  # a second and a half


def settable() -> bool:
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MIN_US, 10_000)
        except OSError:
            return False
    return True


pytestmark = pytest.mark.skipif(not settable(), reason="the kernel has no TCP_RTO_MIN_US")


def timers_ms(address: str) -> dict[str, list[float]]:
    """How long each connection with that port waits before it sends again, by its end."""
    port = address.rpartition(":")[2]
    found = {}
    for end, where in (("source", "dport"), ("destination", "sport")):
        done = subprocess.run(
            [shutil.which("ss") or "ss", "-Htin", "state", "established", f"{where} = :{port}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        found[end] = [float(each) for each in re.findall(r"\brto:([\d.]+)", done.stdout)]
    return found


@pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss (iproute2)")
def test_the_timer_of_the_connection_for_demands_is_short_at_both_ends() -> None:
    with (
        destination("--once", "--quiet") as (_dest, where),
        running("source", "--to", where, "--quiet", *SLOW) as source,
    ):
        source.wait_phase("its memory follows")
        least = {"source": math.inf, "destination": math.inf}
        for _ in range(LOOKS):  # it is shorter from the second answer on
            for end, found in timers_ms(where).items():
                least[end] = min(least[end], *found, math.inf)
            if max(least.values()) < LEAST_MS or source.process.poll() is not None:
                break
        assert max(least.values()) < LEAST_MS, least
        moved = source.end()
    assert moved.exit_code == 0, moved.stderr


@pytest.mark.skipif(
    not FULL,
    reason="scripts/test --full: a latency, for a machine that does nothing else",
)
@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/net/tun"),
    reason="needs root and /dev/net/tun, for network namespaces",
)
def test_a_link_that_loses_one_in_a_hundred() -> None:
    run = pageferry(
        *("migrate", "--net", "rate=1gbit,delay=10ms,loss=1%", "--congestion", "bbr"),
        *("--memory", "64MiB", *FAULTING, "--trace-faults", "--json", "-", "--quiet"),
    )
    assert run.exit_code == 0, run.stderr
    assert run.json["verified"] is True
    latency = run.json["postcopy"]["fault_latency_us"]
    assert latency["p50"] >= ROUND_TRIP_MS * 1e3
    assert latency["p99"] < (LEAST_MS + ROUND_TRIP_MS) * 1e3
