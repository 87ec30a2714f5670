"""`python -m tests.support.sweep_killing FOLDER`: a sweep that is killed until it is done.

A process of its own, with one thread, so that it may fork: what is killed starts at once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from pageferry.pair import PairResult
from pageferry.runs.series import Signals
from pageferry.sweeps.driver import run_here
from pageferry.sweeps.ledger import Folder, pending, read_records
from pageferry.sweeps.runners import Ran, Runner
from tests.support.sweep_tables import MIGRATE, PLAN, Kept, cells, moved

MADE = cells(PLAN)
BY_CONFIG = {cell.config: cell for cell in MADE}
MOST_TURNS = 300


def run(config: object, *_: object) -> Ran:
    return Ran(PairResult(moved(BY_CONFIG[config]), 0, None))  # type: ignore[index]


def sweep(path: Path) -> None:
    """What is killed."""
    with Signals() as signals, Folder(path) as folder:
        records, damaged = folder.records((BY_CONFIG[cell.config].key for cell in MADE), MIGRATE)
        assert damaged == []
        run_here(
            pending(MADE, records, retry_failed=False),
            runner=Runner("migrate", MIGRATE.options, run),
            store=folder,
            watcher=Kept(),
            signals=signals,
            log_dir=None,
        )


def killed(path: Path, after_s: float) -> bool:
    """Whether it came to that, or had finished before."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            sweep(path)
            code = 0
        finally:
            os._exit(code)  # what it has raised is of no use to its parent's code
    time.sleep(after_s)
    os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def look(path: Path, seen: dict[str, bytes]) -> dict[str, bytes]:
    """What is there: all that was, as it was, and more that is whole."""
    now = {file.stem: file.read_bytes() for file in (path / "cells").glob("*.json")}
    assert seen.items() <= now.items()
    for key in now:
        assert json.loads((path / "reports" / f"{key}.json").read_bytes())["verified"] is True
    records, damaged = read_records(path, now, MIGRATE)
    assert damaged == []
    assert set(records) == set(now)
    return now


def main() -> None:
    path = Path(sys.argv[1])
    chance = random.Random(20)  # noqa: S311
    seen: dict[str, bytes] = {}
    kills = 0
    for turn in range(MOST_TURNS):
        # Longer and longer: it comes to an end on any machine.
        if not killed(path, chance.uniform(0, 0.001 * (1 + turn))):
            break
        kills += 1
        seen = look(path, seen)
    seen = look(path, seen)
    print(json.dumps({"kills": kills, "cells": list(seen)}))


if __name__ == "__main__":
    main()
