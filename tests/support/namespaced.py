"""`namespaced.py [--hour] [--over PATH]... -- ARGUMENTS`: `pageferry` in namespaces of its own.

Of mounts, with nothing but an empty folder at each PATH (`%` stands for its process id); with
`--hour` also of time, where clocks are an hour ahead. What unshare(1) and a shell would do, in the
process that goes on as the command: so it need not be loaded anew.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import runpy
import subprocess
import sys
from pathlib import Path

NEW_MOUNTS, NEW_TIME = 0x00020000, 0x00000080  # <linux/sched.h>
HOUR_S = 3600


def enter(over: list[str], *, hour: bool) -> None:
    """Leave the namespaces that this process was started in."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS | (NEW_TIME if hour else 0)) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if hour:
        Path("/proc/self/timens_offsets").write_text(f"monotonic {HOUR_S} 0\nboottime {HOUR_S} 0\n")
        with Path("/proc/self/ns/time_for_children").open("rb") as ours:
            if libc.setns(ours.fileno(), NEW_TIME) != 0:
                raise OSError(ctypes.get_errno(), "setns")
    subprocess.run(["/bin/mount", "--make-rprivate", "/"], check=True)
    for path in over:
        subprocess.run(["/bin/mount", "-t", "tmpfs", "none", path], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--hour", action="store_true")
    parser.add_argument("--over", action="append", default=[])
    parser.add_argument("arguments", nargs="+")
    asked = parser.parse_args()
    enter([path.replace("%", str(os.getpid())) for path in asked.over], hour=asked.hour)
    sys.argv = ["pageferry", *asked.arguments]
    runpy.run_module("pageferry.cli", run_name="__main__", alter_sys=True)
