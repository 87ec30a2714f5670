"""Clocks of two machines that say that they are one, and machines that can't say which they are."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from tests.support import entering
from tests.support.command_line import CHECKOUT, Run, command, environment, run_words

QUICK = ("--memory", "16MiB", "--warmup", "100ms", "--run-after", "100ms", "--quiet")
ANOTHER_CLOCK = ("--time", "--monotonic", "3600", "--boottime", "3600")
# What tells one time namespace from another, which clones of a machine do not have.
NAMELESS = "/proc/$PPID/ns"  # of the process itself: a shell of its own hides it
NO_BOOT_ID = "/proc/sys/kernel/random"


def _why_not() -> str | None:
    """What is missing for namespaces of time and mounts, if anything."""
    if os.geteuid() != 0:
        return "needs root, for namespaces of time and mounts"
    tried = subprocess.run(
        ["unshare", "--mount", *ANOTHER_CLOCK, "mount", "-t", "tmpfs", "none", NO_BOOT_ID],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"unshare --mount --time: {tried.stderr.strip()}"


REASON = _why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")


def within(hidden: Sequence[str], *arguments: str, hour: bool = False) -> list[str]:
    """A command in namespaces of its own, where nothing can be read below what is `hidden`."""
    steps: list[entering.Step] = [("an hour ahead",)] if hour else []
    steps += [("mounts",), *(("shell", f"mount -t tmpfs none {path}") for path in hidden)]
    return entering.command(steps, command(*arguments))


@contextlib.contextmanager
def dest_within(hidden: Sequence[str], *, hour: bool) -> Iterator[str]:
    """A destination there, and its HOST:PORT."""
    read_fd, write_fd = os.pipe()
    options = ("dest", "--listen", "127.0.0.1:0", "--quiet", "--status-fd", str(write_fd))
    process = subprocess.Popen(
        within(hidden, *options, hour=hour),
        pass_fds=[write_fd],
        env=environment(),
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    os.close(write_fd)
    try:
        with os.fdopen(read_fd) as status:
            line = status.readline()
        assert line, process.communicate()
        yield f"127.0.0.1:{json.loads(line)['listening']['port']}"
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended of itself
            os.killpg(process.pid, 9)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def source_within(hidden: Sequence[str], where: str) -> Run:
    options = ("source", "--to", where, "--json", "-", *QUICK)
    return run_words(within(hidden, *options))


def test_a_clone_of_a_machine_has_a_clock_of_its_own() -> None:
    with dest_within([NAMELESS], hour=True) as where:
        done = source_within([NAMELESS], where)
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert 0 < report["downtime_ms"] < 60_000
    assert 0 < report["downtime_error_ms"] < 1_000
    at = {event["event"]: event["t_ms"] for event in report["events"]}
    assert abs(at["resumed"]) < 60_000
    assert report["guest"]["longest_gap_ms"] < 60_000


def test_another_time_namespace_is_another_clock() -> None:
    with dest_within([], hour=True) as where:
        done = source_within([], where)
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert 0 < report["downtime_ms"] < 60_000
    assert report["downtime_error_ms"] > 0


def test_one_machine_has_one_clock() -> None:
    with dest_within([], hour=False) as where:
        done = source_within([], where)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["downtime_error_ms"] == 0.0


@pytest.mark.parametrize("hour", [False, True])
def test_a_kernel_without_a_boot_id(hour: bool) -> None:
    """As some sandboxes: nobody can say which clock it is, so it is estimated."""
    with dest_within([NO_BOOT_ID], hour=hour) as where:
        done = source_within([NO_BOOT_ID], where)
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["verified"] is True
    assert 0 < report["downtime_ms"] < 60_000
    assert report["downtime_error_ms"] > 0
