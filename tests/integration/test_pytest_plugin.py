"""The plug-in as its users have it: sessions of their own, in a folder outside the project."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.harness import children_of, wait_gone
from tests.support.left_behind import nothing_left
from tests.support.nobody import NOBODY, as_nobody
from tests.support.outside import end, run, start
from tests.support.tiers import full_only

FIXTURES = """
    import pytest

    @pytest.mark.pageferry(downtime_ms=5000, rounds=60)
    def test_migrate(pageferry_migrate, tmp_path):
        report = pageferry_migrate(workload="zipf:rate=20MB/s", strategy="pre-copy")
        assert report.verified
        assert report.config["memory"] == 16 * 2**20
        assert pageferry_migrate.reports == [report]
        assert (tmp_path / "migration-1" / "source.log").exists()

    def test_dest(pageferry_dest):
        for strategy in ("stop-and-copy", "post-copy"):
            report = pageferry_dest.migrate(strategy=strategy, max_bandwidth="unlimited")
            assert report.verified

    def test_hosts(pageferry_hosts):
        here, there = pageferry_hosts.here, pageferry_hosts.there
        assert here.boot("web", workload="zipf:rate=4MB/s") == "web"
        report = here.move(there, "web", strategy="pre-copy", max_bandwidth="unlimited")
        assert report.outcome == "completed"
        assert (here.guests(), there.guests()) == ({}, {"web": "running"})
        there.verify("web")

    def test_link(pageferry_migrate, pageferry_link):
        link = pageferry_link("rate=400mbit")
        report = pageferry_migrate(**link, strategy="stop-and-copy")
        assert report.net.link == pageferry_link.kind == link["link"]
"""


def test_every_fixture_does_what_it_is_for(tmp_path: Path) -> None:
    session = run(tmp_path, FIXTURES, at_once=True)
    assert session.exit_code == 0, session.said
    assert "4 passed" in session.said


LIMITS = """
    import pytest

    @pytest.mark.pageferry(downtime_ms=0.001, bytes_on_wire=1e12)
    def test_missed(pageferry_migrate):
        pageferry_migrate(strategy="stop-and-copy")

    @pytest.mark.pageferry(faults=10)
    def test_not_measured(pageferry_migrate):
        pageferry_migrate(strategy="stop-and-copy")

    @pytest.mark.pageferry(downtime=50)
    def test_unknown(): ...

    @pytest.mark.pageferry(downtime_ms="50ms")
    def test_no_number(): ...

    @pytest.mark.pageferry(50)
    def test_no_name(): ...

    @pytest.mark.pageferry(downtime_ms=50)
    def test_measures_nothing(): ...

    @pytest.mark.pageferry(downtime_ms=50)
    def test_skips(): pytest.skip("not today")
"""


def test_what_a_limit_says_is_one_line(tmp_path: Path) -> None:
    session = run(tmp_path, LIMITS, at_once=True)
    said = [line for line in session.said.splitlines() if line.startswith("pageferry: ")]
    assert session.exit_code == 1, session.said
    marker = "pageferry: @pytest.mark.pageferry: "
    expected = (
        marker + "downtime is unknown: expected downtime_ms, ",
        marker + "downtime_ms='50ms' is no limit: expected a number",
        marker + "50 has no name: expected a limit as downtime_ms=50",
        "pageferry: downtime_ms was ",
        "pageferry: faults has a limit of 10, and was not measured (stop-and-copy · idle · 16MiB)",
        "pageferry: the test has limits, and has made no migration",
    )
    for words in expected:
        assert any(line.startswith(words) for line in said), (words, session.said)
    assert "3 failed, 1 skipped, 3 errors" in session.said


FAILS = """
    import pathlib

    def test_fails_in_the_middle(pageferry_hosts, pageferry_dest, pageferry_migrate):
        pageferry_hosts.here.boot("web")
        def on_status(status):
            assert not status.phase.startswith("round 1")
        pageferry_migrate(max_bandwidth="1MB/s", on_status=on_status)

    def test_is_next():
        for task in pathlib.Path("/proc/self/task").iterdir():
            for child in (task / "children").read_text().split():
                comm = pathlib.Path("/proc", child, "comm").read_text()
                assert comm == "spare\\n"  # of the tests, and no process of pageferry
"""


def test_nothing_is_left_of_a_test_that_fails(tmp_path: Path) -> None:
    with nothing_left():
        session = run(tmp_path, FAILS, "-n", "1", at_once=True)
        assert "1 failed, 1 passed" in session.said, session.said
    assert "KeyboardInterrupt" not in session.said


STAYS = """
    import pathlib, time

    def test_waits(pageferry_hosts, pageferry_dest, pageferry_migrate, pageferry_link):
        pageferry_hosts.here.boot("web")
        def on_status(status):
            if status.phase.startswith("round 1"):
                pathlib.Path("begun").touch()
        link = {"net": "rate=8mbit", "link": "relay"}
        pageferry_migrate(**link, strategy="pre-copy", on_status=on_status)
"""


def _all_below(pid: int) -> list[int]:
    return [each for child in children_of(pid) for each in (child, *_all_below(child))]


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        pytest.param(signal.SIGINT, (), id="Ctrl-C", marks=full_only),
        pytest.param(signal.SIGINT, ("-n", "1"), id="Ctrl-C with xdist"),
        pytest.param(signal.SIGKILL, (), id="killed"),
    ],
)
def test_nothing_is_left_of_a_session_that_is_ended(
    tmp_path: Path, number: signal.Signals, workers: tuple[str, ...]
) -> None:
    session = start(tmp_path, STAYS, *workers, at_once=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert session.poll() is None, session.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    below = _all_below(session.pid)
    assert len(below) >= 5  # a host, a destination, both agents, the link's keeper
    if number == signal.SIGINT:
        os.killpg(session.pid, number)  # as a terminal does
    else:
        os.kill(session.pid, number)
    end(session)
    assert wait_gone(below) == []


LINKS = """
    def test_kind(pageferry_link):
        assert pageferry_link.kind == "relay"
        link = pageferry_link("rate=1gbit", schedule="at 1s rate=10mbit")
        assert link == {"net": "rate=1gbit", "link": "relay", "schedule": ("at 1s rate=10mbit",)}

    def test_loss(pageferry_link):
        pageferry_link("rate=1gbit,loss=1%")

    def test_wrong(pageferry_link):
        pageferry_link("rate=fast")
"""


def test_without_privileges_a_link_is_a_relay() -> None:
    with tempfile.TemporaryDirectory(prefix="pageferry-test-") as name:
        if os.getuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        session = run(Path(name), LINKS, "-rA", prefix=as_nobody())
    assert "1 failed, 1 passed, 1 skipped" in session.said, session.said
    assert "SKIPPED" in session.said
    assert "a relay can't be such a link: " in session.said
    assert "UsageError" in session.said


def test_a_session_without_our_fixtures_loads_nothing_of_ours(tmp_path: Path) -> None:
    text = """
        import sys

        def test_it():
            assert "pageferry.pytest_plugin" in sys.modules
            assert not {"numpy", "pydantic", "pageferry.common.config.model"} & {*sys.modules}
    """
    session = run(tmp_path, text, "-p", "no:hypothesispytest")
    assert session.exit_code == 0, session.said
