"""Whoever vanishes, and whenever: the exit code and the one line say where the guest is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.command_line import pageferry
from tests.support.harness import children_of
from tests.support.running import destination, running
from tests.support.spare import runs
from tests.support.tiers import full_only

QUICK = ("--memory", "16MiB", "--warmup", "100ms", "--quiet")
SLOW = ("--max-bandwidth", "4MB/s", "--strategy", "pre-copy")
POST_COPY = (
    *("--strategy", "post-copy", "--max-bandwidth", "4MB/s", "--cache", "0"),
    *("--recover-timeout", "2s"),
)
FOLLOWS = "its memory follows"


def source_of(pid: int) -> int:
    """The source agent among the children of a pair."""
    for child in children_of(pid):
        if runs(child, "pageferry.source_agent"):
            return child
    raise AssertionError("there is no source agent")


def test_a_host_that_dies_with_the_guest_that_it_was_to_move(tmp_path: Path) -> None:
    control = str(tmp_path / "host.sock")
    boot = ("--boot", "--guest", "g", "--memory", "16MiB")
    with (
        running("host", "--listen", "127.0.0.1:0", "--control", control, *boot) as host,
        running("host", "--listen", "127.0.0.1:0", "--control", f"{control}2") as other,
    ):
        host.wait_said("guest g runs here")
        to = f"127.0.0.1:{other.wait_key('listening')['port']}"
        with running("move", "--to", to, "--host", control, "--quiet", *SLOW) as moving:
            moving.wait_phase("round 1")
            host.process.kill()
            ended = moving.end()
    assert ended.exit_code == 4, ended.stderr
    assert "ended before it had answered" in ended.complaint
    assert "nobody knows" in ended.complaint


@pytest.mark.parametrize(
    ("phase", "options", "words"),
    [
        ("round 1", SLOW, "its guest ended with it"),
        (FOLLOWS, POST_COPY, "the guest is lost"),
    ],
)
def test_a_source_that_is_killed(phase: str, options: tuple[str, ...], words: str) -> None:
    with running("migrate", *QUICK, *options) as pair:
        pair.wait_phase(phase)
        os.kill(source_of(pair.process.pid), signal.SIGKILL)
        ended = pair.end()
    assert ended.exit_code == 4, ended.stderr
    assert "SIGKILL" in ended.complaint
    assert words in ended.complaint


def test_a_source_that_is_killed_after_a_signal_was_not_cancelled() -> None:
    """In post-copy it is too late to cancel: a guest that ends then has not gone on anywhere."""
    with running("migrate", *QUICK, *POST_COPY) as pair:
        pair.wait_phase(FOLLOWS)
        pair.tell(signal.SIGINT)
        pair.wait_status(lambda key, value: key == "status" and value["notice"] is not None)
        os.kill(source_of(pair.process.pid), signal.SIGKILL)
        ended = pair.end()
    assert ended.exit_code == 4, ended.stderr
    assert "the guest is lost" in ended.complaint


@pytest.mark.parametrize(
    ("phase", "options", "code", "outcome", "words"),
    [
        ("round 1", SLOW, 1, "failed", "goes on at the source"),
        (FOLLOWS, POST_COPY, 4, "lost", "the guest is lost"),
        (
            "runs at the destination",
            ("--max-bandwidth", "unlimited", "--strategy", "stop-and-copy", "--run-after", "60s"),
            3,
            "completed",
            "nobody knows here whether it still runs there",
        ),
    ],
)
def test_a_destination_that_is_killed(
    phase: str, options: tuple[str, ...], code: int, outcome: str, words: str
) -> None:
    with (
        destination("--quiet") as (dest, where),
        running("source", "--to", where, "--json", "-", *QUICK, *options) as source,
    ):
        source.wait_phase(phase)
        dest.process.kill()
        ended = source.end()
    assert ended.exit_code == code, ended.stderr
    assert words in ended.complaint
    assert ended.json["outcome"] == outcome
    assert ended.json["error"] == ended.complaint.removeprefix("pageferry: ")


def test_a_cancellation_says_where_the_guest_is() -> None:
    with (
        destination("--quiet") as (_dest, where),
        running("source", "--to", where, "--json", "-", *QUICK, *SLOW) as source,
    ):
        source.wait_phase("round 1")
        source.tell(signal.SIGINT)
        ended = source.end()
    assert ended.exit_code == 130
    assert "the guest goes on at the source" in ended.complaint
    assert ended.json["outcome"] == "cancelled"


def test_where_there_was_no_guest_yet_that_is_said() -> None:
    ended = pageferry("source", "--to", "127.0.0.1:9", "--quiet")
    assert ended.exit_code == 1
    assert "no guest had been started" in ended.complaint


def test_a_time_out_says_where_the_guest_is() -> None:
    ended = pageferry("migrate", *QUICK, *SLOW, "--timeout", "500ms")
    assert ended.exit_code == 130
    assert ended.complaint.endswith("the guest goes on at the source")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_destination_that_waits_for_a_source_that_is_gone(number: signal.Signals) -> None:
    """It goes on waiting for as long as it was told to, and then the guest has ended with it."""
    with (
        destination("--quiet") as (dest, where),
        running("source", "--to", where, *QUICK, *POST_COPY) as source,
    ):
        source.wait_phase(FOLLOWS)
        source.process.kill()
        dest.tell(number)
        ended = dest.end()
    assert ended.exit_code == 4, ended.stderr
    assert "the guest ran here with pages missing, and is lost" in ended.complaint


@pytest.mark.parametrize(
    ("phase", "options", "code", "words"),
    [
        pytest.param(
            *("round 1", SLOW, 1, "goes on at the source, if that still runs"),
            marks=full_only,  # it waits for as long as a silent peer may take
        ),
        (
            "runs at the destination",
            ("--max-bandwidth", "unlimited", "--strategy", "stop-and-copy", "--run-after", "1s"),
            3,
            "the guest has moved to this end, in whole",
        ),
        (FOLLOWS, POST_COPY, 4, "the guest is lost in part"),
    ],
)
def test_what_a_destination_says_of_a_source_that_is_gone(
    phase: str, options: tuple[str, ...], code: int, words: str
) -> None:
    with (
        destination("--once", "--quiet") as (dest, where),
        running("source", "--to", where, *QUICK, *options) as source,
    ):
        source.wait_phase(phase)
        source.process.kill()
        ended = dest.end()
    assert ended.exit_code == code, ended.stderr
    assert words in ended.complaint
