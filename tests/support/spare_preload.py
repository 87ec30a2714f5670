"""Loaded once by the process that agents are forked from: every kernel, by two small migrations."""

from __future__ import annotations

import linecache
import math

import uvloop

from pageferry.cli import make_app
from pageferry.common.config.model import MigrationConfig
from tests.support.inprocess import move

# asyncio's debug mode asks for each callback whether any file on the stack has changed.
linecache.checkcache = lambda *_: None
make_app()
for _strategy in ("pre-copy", "post-copy"):
    uvloop.run(
        move(
            MigrationConfig(
                memory=2**20,
                cache=2**16,
                workload="uniform",
                strategy=_strategy,
                max_bandwidth=math.inf,
                warmup=0,
                run_after=0,
            )
        )
    )
