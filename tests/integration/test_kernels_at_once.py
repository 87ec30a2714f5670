"""Several processes compile the same functions with other signatures, into one empty cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.command_line import run_words

FUNCTIONS = 6
KINDS = {"int64": "3", "float64": "1.5", "float32": "np.float32(1.5)"}
SHARED = "from pageferry.common.guest.jit import kernel\n" + "".join(
    f"@kernel\ndef f{i}(x):\n    return x * {i + 2} + 1\n" for i in range(FUNCTIONS)
)
# Workers are forked from a process that has loaded the compiler: what they share from then on is
# the cache.
WORKERS = """
import os, sys, threading, time
import numpy as np
from pageferry.common.guest import jit
from numba import njit
import shared
values = [eval(each) for each in sys.argv[2:]]
for value in {*values}:
    njit(lambda x: x + 1)(value)  # the compiler itself is loaded
assert threading.active_count() == 1
start = time.time() + 0.3
workers = []
for value in values:
    workers.append(os.fork())
    if workers[-1] == 0:
        for i in range(int(sys.argv[1])):  # each function at one moment in all processes
            time.sleep(max(start + 0.25 * i - time.time(), 0))
            getattr(shared, f"f{i}")(value)
        sys.exit()
sys.exit(any([os.waitpid(worker, 0)[1] for worker in workers]))
"""
READER = """
import sys
import numpy as np
import shared
for value in [eval(each) for each in sys.argv[2:]]:
    for i in range(int(sys.argv[1])):
        f = getattr(shared, f"f{i}")
        assert f(value) == value * (i + 2) + 1, (i, value, f(value))
        assert not f.stats.cache_misses, f.stats
"""


def test_none_gets_the_code_of_another_signature(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(SHARED)
    path = os.pathsep.join((str(tmp_path), *filter(None, sys.path)))
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": path}
    for code, values in (
        (WORKERS, [*KINDS.values(), *KINDS.values()]),  # of each signature two
        (READER, [*KINDS.values()]),
    ):
        words = [sys.executable, "-P", "-c", code, str(FUNCTIONS), *values]
        done = run_words(words, env=environment, timeout=100)
        assert done.exit_code == 0, done.stderr
        assert done.stderr == ""
    kept = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(kept) == FUNCTIONS * len(KINDS), kept  # and no drafts
