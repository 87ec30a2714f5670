"""A command that is not loaded anew in its surroundings is in them all the same."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import entering
from tests.support.command_line import command, environment
from tests.support.harness import children_of
from tests.support.nobody import NOBODY, as_nobody

RIGHTS = ("Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:")


def rights(status: str) -> list[str]:
    return [line for line in status.splitlines() if line.startswith(RIGHTS)]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_nobody_has_what_nobody_has_who_is_loaded_anew() -> None:
    words = command("dest", "--listen", "127.0.0.1:0")
    with subprocess.Popen(
        entering.command([("user", str(NOBODY))], words),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as agent:
        try:
            assert agent.stderr is not None
            assert b"listening" in agent.stderr.readline()
            ours = rights(Path(f"/proc/{agent.pid}/status").read_text())
        finally:
            agent.kill()
    seen = [*as_nobody(), "cat", "/proc/self/status"]
    assert ours == rights(subprocess.run(seen, capture_output=True, text=True, check=True).stdout)


def test_what_a_command_starts_is_in_them_too(tmp_path: Path) -> None:
    """Both agents of a migration, which nobody has forked before the command was there."""
    words = command("migrate", "--memory", "4MiB", "--max-bandwidth", "100KB/s", "--quiet")
    steps = [("shell", f"echo $PPID > {tmp_path}/entered"), ("no userfaultfd",)]
    with subprocess.Popen(entering.command(steps, words), env=environment()) as running:
        try:
            deadline = time.monotonic() + 60
            while len(agents := children_of(running.pid)) < 2:
                assert running.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert (tmp_path / "entered").read_text() == f"{running.pid}\n"
            for pid in agents:
                assert "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()
        finally:
            running.terminate()
