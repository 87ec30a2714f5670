"""Several processes compile the same functions with other signatures, into one empty cache."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

FUNCTIONS = 8
KINDS = {"int64": "3", "float64": "1.5", "float32": "np.float32(1.5)"}
SHARED = "from pageferry.common.guest.jit import kernel\n" + "".join(
    f"@kernel\ndef f{i}(x):\n    return x * {i + 2} + 1\n" for i in range(FUNCTIONS)
)
WORKER = """
import sys, time
import numpy as np
from pageferry.common.guest import jit
from numba import njit
import shared
value = eval(sys.argv[1])
njit(lambda x: x + 1)(value)  # the compiler itself is loaded
print("ready", flush=True)
start = float(sys.stdin.readline())
for i in range(int(sys.argv[2])):  # each function at one moment in all processes
    time.sleep(max(start + 0.25 * i - time.time(), 0))
    getattr(shared, f"f{i}")(value)
"""
READER = """
import sys
import numpy as np
import shared
value = eval(sys.argv[1])
for i in range(int(sys.argv[2])):
    f = getattr(shared, f"f{i}")
    assert f(value) == value * (i + 2) + 1, (i, value, f(value))
    assert not f.stats.cache_misses, f.stats
"""


def test_none_gets_the_code_of_another_signature(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(SHARED)
    path = os.pathsep.join((str(tmp_path), *filter(None, sys.path)))
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": path}

    def command(code: str, value: str) -> list[str]:
        return [sys.executable, "-P", "-c", code, value, str(FUNCTIONS)]

    workers = [
        subprocess.Popen(
            command(WORKER, value),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for value in (*KINDS.values(), *KINDS.values())
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    start = f"{time.time() + 0.3}\n"
    ended = [worker.communicate(start, timeout=100) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers), ended
    assert {err for _, err in ended} == {""}
    for value in KINDS.values():
        done = subprocess.run(
            command(READER, value), env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    kept = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(kept) == FUNCTIONS * len(KINDS), kept  # and no drafts
