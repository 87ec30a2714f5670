"""Hosts and sandboxes that show a process less than usual."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.support.command_line import command, run_words

QUICK = ("--memory", "16MiB", "--warmup", "0s", "--run-after", "0s", "--max-bandwidth", "unlimited")


def test_it_migrates_without_proc_sys() -> None:
    unshare = shutil.which("unshare")
    if os.getuid() or unshare is None:
        pytest.skip("needs root and unshare, to hide /proc/sys")
    hidden = 'mount -t tmpfs none /proc/sys || exit 77; exec "$@"'
    run = run_words([unshare, "-m", "sh", "-c", hidden, "sh", *command("migrate", *QUICK)])
    if run.exit_code == 77:
        pytest.skip(f"nothing can be mounted here: {run.stderr.strip()}")
    assert run.exit_code == 0, run.stderr
    assert "Traceback" not in run.stderr
