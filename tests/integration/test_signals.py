"""Signals that ask to end: no guest is lost by one, and each is answered by one true line."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pageferry.common.process.signals import OTHERS
from tests.support.command_line import pageferry
from tests.support.harness import children_of
from tests.support.running import Running, destination, running
from tests.support.tiers import FULL

ASKING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
QUICK = ("--memory", "16MiB", "--warmup", "100ms", "--run-after", "100ms")
# 16 MiB take a second and a half: whatever is done to it comes while pages are missing.
POST_COPY = (
    *QUICK,
    *("--strategy", "post-copy", "--max-bandwidth", "10MB/s", "--cache", "0"),
    *("--workload", "uniform:working-set=100%,rate=1MB/s"),
)
LONG = (
    *("--memory", "16MiB", "--warmup", "100ms", "--run-after", "60s"),
    *("--strategy", "stop-and-copy", "--max-bandwidth", "unlimited"),
)
FOLLOWS = "its memory follows"
# What else ends a process mutely by default: a sample, or all of them.
SENT_BY_OTHERS = OTHERS if FULL else OTHERS[:2]


@pytest.mark.parametrize("number", ASKING)
@pytest.mark.parametrize("options", [(), ("--once",), ("--once", "--quiet")])
def test_a_destination_whose_guest_lacks_pages_sees_it_through(
    number: signal.Signals, options: tuple[str, ...]
) -> None:
    if options and number is not signal.SIGTERM:
        pytest.skip("one signal stands for all with these options")
    with (
        destination(*options) as (dest, where),
        running("source", "--to", where, "--quiet", *POST_COPY) as source,
    ):
        source.wait_phase(FOLLOWS)
        dest.tell(number)
        ended = dest.end()
        assert ended.exit_code == 0, ended.stderr
        moved = source.end()
    assert moved.exit_code == 0, moved.stderr + ended.stderr
    assert "pages of it are missing: that is seen through" in ended.stderr
    assert "stopped: " in ended.complaint
    assert "came in whole" in ended.complaint


def test_a_lazy_copy_is_ended_with_a_result() -> None:
    """Its pages never come in whole: its source has the result, and verifies what it had."""
    lazy = ("--strategy", "lazy-copy", "--memory", "16MiB", "--run-after", "60s")
    with (
        destination("--once") as (dest, where),
        running("source", "--to", where, "--quiet", *lazy) as source,
    ):
        source.wait_phase("lazy copy")
        dest.tell(signal.SIGTERM)
        ended = dest.end()
        assert ended.exit_code == 0, ended.stderr
        moved = source.end()
    assert moved.exit_code == 0, moved.stderr + ended.stderr


@pytest.mark.parametrize("number", ASKING)
def test_a_destination_whose_whole_guest_ends_with_it_says_so(number: signal.Signals) -> None:
    with (
        destination("--once", "--quiet") as (dest, where),
        running("source", "--to", where, "--quiet", *LONG) as source,
    ):
        dest.wait_key("resumed")
        source.wait_phase("runs at the destination")
        dest.tell(number)
        ended = dest.end()
        moved = source.end()
    assert ended.exit_code == 4, ended.stderr
    assert "the guest that ran here ended with it" in ended.complaint
    # What it had done by then was what it should have done, and the source knows.
    assert moved.exit_code == 0, moved.stderr


@pytest.mark.parametrize("number", ASKING)
def test_a_destination_that_has_no_guest_says_so_in_one_line(number: signal.Signals) -> None:
    with destination("--quiet") as (dest, _where):
        dest.tell(number)
        ended = dest.end()
    assert ended.exit_code == 130
    assert len(ended.lines) == 1
    assert "no guest" in ended.complaint


def test_a_destination_whose_guest_has_had_its_run_does_not_say_that_none_had_come() -> None:
    with destination() as (dest, where):
        moved = pageferry("source", "--to", where, *QUICK, "--max-bandwidth", "unlimited")
        assert moved.exit_code == 0, moved.stderr
        dest.wait_said(r"session \w+: done")
        dest.tell(signal.SIGTERM)
        ended = dest.end()
    assert ended.complaint == "pageferry: stopped: no guest was here or on its way"


@pytest.mark.parametrize("number", ASKING)
def test_a_destination_before_the_hand_over_lets_the_guest_go_on(number: signal.Signals) -> None:
    slow = ("--memory", "16MiB", "--max-bandwidth", "2MB/s", "--warmup", "100ms")
    with (
        destination("--quiet") as (dest, where),
        running("source", "--to", where, "--quiet", "--json", "-", *slow) as source,
    ):
        source.wait_phase("round 1")
        dest.tell(number)
        ended, stayed = dest.end(), source.end()
    assert ended.exit_code == 130
    assert "goes on at the source" in ended.complaint
    assert stayed.exit_code == 1
    assert "goes on at the source" in stayed.complaint
    assert stayed.json["guest"]["runs_at"] == "source"


def test_a_source_sees_post_copy_through_at_a_hangup() -> None:
    with (
        destination("--once") as (_dest, where),
        running("source", "--to", where, "--quiet", *POST_COPY) as source,
    ):
        source.wait_phase(FOLLOWS)
        for number in (signal.SIGHUP, signal.SIGHUP, *SENT_BY_OTHERS, signal.SIGHUP):
            source.tell(number)
        moved = source.end()
    assert moved.exit_code == 0, moved.stderr
    assert moved.stderr.count("too late to cancel") == 1


@pytest.mark.parametrize("command", ["source", "migrate"])
def test_a_hangup_cancels_a_migration(command: str) -> None:
    slow = ("--memory", "16MiB", "--max-bandwidth", "2MB/s", "--warmup", "100ms", "--quiet")
    with destination() as (_dest, where):
        to = ("--to", where) if command == "source" else ()
        with running(command, *to, *slow) as source:
            source.wait_phase("round 1")
            source.tell(signal.SIGHUP)
            source.tell(signal.SIGHUP)
            ended = source.end()
    assert ended.exit_code == 130, ended.stderr
    assert ended.lines == ["pageferry: cancelled by the user: the guest goes on at the source"], (
        ended.stderr
    )


def _ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextlib.contextmanager
def _running_deaf(*arguments: str, **popen: Any) -> Iterator[Running]:
    """Run a command that ignores hang-ups, as under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.ExitStack() as ending:
        try:
            one = ending.enter_context(running(*arguments, **popen))
        finally:
            signal.signal(signal.SIGHUP, before)
        yield one


def test_a_hangup_that_was_ignored_stays_ignored_in_all_processes() -> None:
    """All are loaded anew: what the kernel hands on from one to the next is what this is about."""
    with running("migrate", "--quiet", *POST_COPY, preexec_fn=_ignore_hangups) as pair:
        pair.wait_phase("waiting for the destination")
        agents = children_of(pair.process.pid)
        assert len(agents) == 2
        for pid in (pair.process.pid, *agents):
            os.kill(pid, signal.SIGHUP)
        ended = pair.end()
    assert (ended.exit_code, ended.stderr) == (0, "")


@pytest.mark.parametrize("number", [*ASKING, *SENT_BY_OTHERS])
def test_a_host_that_ends_with_guests_says_which(number: signal.Signals, tmp_path: Path) -> None:
    control = tmp_path / "host.sock"
    boot = ("--boot", "--guest", "g", "--memory", "16MiB")
    where = ("--listen", "127.0.0.1:0", "--control", str(control))
    with running("host", *where, *boot) as host:
        host.wait_said("guest g runs here")
        host.tell(number)
        ended = host.end()
    assert ended.exit_code == 4, ended.stderr
    assert "guests that ended with this host: g" in ended.complaint
    assert not control.exists()


def test_a_host_without_guests_ends_as_it_should(tmp_path: Path) -> None:
    where = ("--listen", "127.0.0.1:0", "--control", str(tmp_path / "host.sock"))
    with running("host", *where) as host:
        host.wait_key("listening")
        host.tell(signal.SIGHUP)
        ended = host.end()
    assert ended.exit_code == 130, ended.stderr


def test_a_host_sees_a_guest_through_that_has_come_in_part(tmp_path: Path) -> None:
    first, second = (
        ("host", "--listen", "127.0.0.1:0", "--control", str(tmp_path / f"{name}.sock"))
        for name in ("first", "second")
    )
    guest = ("--boot", "--guest", "g", "--memory", "16MiB")
    slow = ("--strategy", "post-copy", "--max-bandwidth", "10MB/s")
    with running(*first, *guest) as sender, running(*second) as receiver:
        sender.wait_said("guest g runs here")
        port = receiver.wait_key("listening")["port"]
        to = ("--to", f"127.0.0.1:{port}", "--host", str(tmp_path / "first.sock"))
        with running("move", *to, "--quiet", *slow) as moving:
            moving.wait_phase(FOLLOWS)
            receiver.tell(signal.SIGHUP)
            ended = receiver.end()
            assert "seen through" in ended.stderr
            moved = moving.end()
    assert moved.exit_code == 0, moved.stderr
    assert ended.exit_code == 4, ended.stderr  # it came in whole, and ended with its host
    assert "guests that ended with this host: g" in ended.complaint


# -- a terminal that goes away --------------------------------------------------------------------


class _Terminal:
    """Our end is read until it is hung up, as a terminal's emulator does."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._over = threading.Event()
        self.seen = b""
        self._reader.start()

    def _read(self) -> None:
        while not self._over.is_set():
            try:
                self.seen += os.read(self.ours, 4096)
            except OSError:
                return

    def hang_up(self) -> None:
        os.close(self.theirs)
        self._over.set()
        os.close(self.ours)


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_that_is_lost_ends_nothing(tmp_path: Path, quiet: bool) -> None:
    """Every write to it fails from then on; `nohup` or `disown` keep the hang-up away."""
    report = tmp_path / "report.json"
    terminal = _Terminal()
    streams: dict[str, Any] = {"stdout": terminal.theirs, "stderr": terminal.theirs}
    more = ("--quiet",) if quiet else ()
    with _running_deaf("migrate", "--json", str(report), *more, *POST_COPY, **streams) as pair:
        pair.wait_phase(FOLLOWS)
        terminal.hang_up()
        ended = pair.end()
    assert ended.exit_code == 0
    assert '"verified": true' in report.read_text()


def test_a_dropped_session_does_not_lose_a_guest_in_post_copy(tmp_path: Path) -> None:
    """What ssh leaves behind: the hang-up, and a terminal that every write fails on."""
    report = tmp_path / "report.json"
    terminal = _Terminal()
    with (
        destination("--once", "--quiet") as (_dest, where),
        running(
            "source",
            *("--to", where, "--json", str(report)),
            *POST_COPY,
            stdout=terminal.theirs,
            stderr=terminal.theirs,
        ) as source,
    ):
        source.wait_phase(FOLLOWS)
        terminal.hang_up()
        source.tell(signal.SIGHUP)
        ended = source.end()
    assert ended.exit_code == 0
    assert '"verified": true' in report.read_text()


def test_a_host_whose_terminal_is_lost_still_sends_its_guest(tmp_path: Path) -> None:
    terminal = _Terminal()
    first, second = (
        ("host", "--listen", "127.0.0.1:0", "--control", str(tmp_path / f"{name}.sock"))
        for name in ("first", "second")
    )
    streams: dict[str, Any] = {"stdout": terminal.theirs, "stderr": terminal.theirs}
    boot = ("--boot", "--guest", "g", "--memory", "16MiB")
    with running(*second) as receiver, _running_deaf(*first, *boot, **streams) as sender:
        sender.wait_key("listening")
        port = receiver.wait_key("listening")["port"]
        _booted(tmp_path / "first.sock")
        terminal.hang_up()
        to = ("--to", f"127.0.0.1:{port}", "--host", str(tmp_path / "first.sock"))
        with running("move", *to, "--quiet") as moving:
            moved = moving.end()
        sender.tell(signal.SIGTERM)
        assert sender.end().exit_code == 130
    assert moved.exit_code == 0, moved.stderr


def _booted(control: Path) -> None:
    """Until that host's guest runs."""
    while (
        '"running"' not in pageferry("host", "list", "--host", str(control), "--json", "-").stdout
    ):
        pass
