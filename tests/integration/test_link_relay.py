"""`--link relay`: a shaped link for those without root."""

from __future__ import annotations

from pathlib import Path

from pageferry.common.report.schema import Report
from tests.support.harness import agent, children_of, wait_gone
from tests.support.known import known

SMALL = (
    *("--memory", "16MiB", "--workload", "zipf:rate=10MB/s", "--quiet"),
    *("--warmup", "100ms", "--run-after", "100ms", "--max-bandwidth", "unlimited"),
)


def test_a_rate_a_delay_and_an_outage(tmp_path: Path) -> None:
    path = tmp_path / "report"
    arguments = (
        *("migrate", "--json", str(path), *SMALL, "--strategy", "post-copy"),
        *("--link", "relay", "--net", "rate=160mbit,delay=3ms,jitter=1ms"),
        *("--schedule", "at 200ms outage=300ms"),
    )
    with agent(*arguments) as running:
        running.wait_status(lambda key, value: key == "status" and value["elapsed_s"] > 0)
        started = children_of(running.process.pid)
        run = running.end()
    assert run.exit_code == 0, run.stderr
    assert wait_gone(started) == []
    report = Report.model_validate_json(path.read_text())
    assert report.verified is True
    net = report.net
    assert net is not None
    assert (net.link, net.shaper) == ("relay", "relay")
    assert net.rtt_ms >= 4
    assert net.throughput_Bps < 2.4e7
    assert [change.applied_ms is not None for change in net.schedule] == [True, True]
    assert report.postcopy is not None
    # 16 MiB at 20 MB/s, and nothing moved for 300 ms of it.
    assert report.postcopy.duration_ms >= 1100
    latency = report.postcopy.fault_latency_us
    assert latency is not None
    assert known(latency.max) >= 4000
