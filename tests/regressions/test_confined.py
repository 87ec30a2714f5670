"""Hosts and sandboxes that show a process less than usual."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.regressions.product import CHECKOUT, command, environment

QUICK = ("--memory", "16MiB", "--warmup", "0s", "--run-after", "0s", "--max-bandwidth", "unlimited")


def test_no_proc_sys() -> None:
    unshare = shutil.which("unshare")
    if os.getuid() or unshare is None:
        pytest.skip("needs root and unshare, to hide /proc/sys")
    hidden = 'mount -t tmpfs none /proc/sys || exit 77; exec "$@"'
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", hidden, "sh", *command("migrate", *QUICK)],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment(),
        cwd=CHECKOUT,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
