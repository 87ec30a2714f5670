"""A network that is gone from one moment to the next: packets vanish, nobody is told.

In a namespace of the test's own, whose loopback device is taken down in the middle of a migration.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.harness import Agent


def why_not() -> str | None:
    """What is missing for a namespace of our own, if anything."""
    missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    if os.geteuid() != 0:
        return "needs root, for a network namespace"
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)  # noqa: S607
    return None if made.returncode == 0 else f"unshare --net: {made.stderr.decode().strip()}"


pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


class NamespaceAgent(Agent):
    """A `pageferry` command in a network namespace that `enter` leads into."""

    def __init__(self, enter: list[str], *arguments: str) -> None:
        read_fd, write_fd = os.pipe()
        self.process = subprocess.Popen(
            [
                *enter,
                sys.executable,
                "-m",
                "pageferry.cli",
                *arguments,
                "--status-fd",
                str(write_fd),
            ],
            pass_fds=[write_fd],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(write_fd)
        self._status = os.fdopen(read_fd)


@contextlib.contextmanager
def started(enter: list[str], *arguments: str) -> Iterator[NamespaceAgent]:
    running = NamespaceAgent(enter, *arguments)
    try:
        yield running
    finally:
        running.kill()


def words(log: Path) -> str:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return " ".join(str(line.get("say", "")) for line in lines)


def wait_for_word(log: Path, word: str) -> None:
    deadline = time.monotonic() + 20
    while word not in words(log):
        assert time.monotonic() < deadline, words(log)
        time.sleep(0.02)


def test_both_ends_notice_by_themselves(tmp_path: Path) -> None:
    shared = ("--stall-timeout", "2s", "--log-dir", str(tmp_path))
    own = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    with started(own, "dest", "--listen", "127.0.0.1:0", *shared) as dest:
        port = dest.wait_status(lambda key, _value: key == "listening")["port"]
        theirs = ["nsenter", f"--net=/proc/{dest.process.pid}/ns/net"]
        with started(
            theirs,
            *("source", "--to", f"127.0.0.1:{port}", "--memory", "64MiB", *shared),
            *("--max-bandwidth", "10MB/s", "--strategy", "pre-copy", "--warmup", "100ms"),
        ) as source:
            source.wait_status(lambda key, value: key == "status" and value["phase"] == "round 1")
            down = [*theirs, "ip", "link", "set", "lo", "down"]
            subprocess.run(down, check=True, timeout=20)
            report = source.wait_status(lambda key, _value: key == "report")
            run = source.end()
        wait_for_word(tmp_path / "dest.log", "ended: ")
    assert run.exit_code == 1, run.stderr
    assert "Traceback" not in run.stderr
    assert report["outcome"] == "failed"
    assert report["guest"]["runs_at"] == "source"
    assert "the guest runs here" not in words(tmp_path / "dest.log")
    (failed,) = (event for event in report["events"] if event["event"] == "failed")
    assert failed["t_ms"] >= 1000  # it was silence that told
