"""No kernel is compiled while a migration is under way, however few the cache has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pageferry.common.report.schema import Report
from tests.support.tiers import FULL
from tests.support.warm_kernels import copy_kernels

SCRIPT = """
import json
import uvloop
from numba.core import event
from pageferry.common.config.model import MigrationConfig
from pageferry.common.guest.jit import KernelCache
from pageferry.common.timeline import Timeline
from pageferry.source_agent.report.build import make_report
from pageferry.source_agent.session.session import SourceSession
from tests.support.inprocess import listening

timeline = Timeline("source")

class Compiled(event.Listener):
    def on_start(self, happened):
        timeline.log("compile", kernel=str(happened.data["dispatcher"]))
    def on_end(self, happened):
        pass

event.register("numba:compile", Compiled())

load = KernelCache.load_overload

def loads(self, sig, context):
    timeline.log("load", kernel=self._name)
    return load(self, sig, context)

KernelCache.load_overload = loads

async def run():
    few = {"memory": 2**22, "workload": "uniform:rate=20MB/s", "warmup": 0.05, "run_after": 0.05}
    config = MigrationConfig(**few, strategy="pre-copy")
    async with listening() as (agent, port, said):
        session = SourceSession(config, ("127.0.0.1", port), timeline, lambda line: None)
        await session.run()
        return make_report(session.record)

print(uvloop.run(run()).to_json())
"""


def cache(folder: Path) -> None:
    """An empty one with --full; else one that lacks a kernel of those that every guest runs.

    To fill an empty one takes ten seconds, and says no more: what is compiled there is asked for
    here, too, and no kernel may even be asked for in a migration.
    """
    if not FULL:
        copy_kernels(folder, lacking="*.memory._zero_pages-*")


def test_nothing_is_compiled_during_a_migration(tmp_path: Path) -> None:
    cache(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    report = Report.model_validate_json(done.stdout)
    assert report.verified is True
    assert report.total_time_ms is not None
    happened = {name: [e for e in report.events if e.event == name] for name in ("compile", "load")}
    assert happened["compile"]  # something was missing
    for events in happened.values():
        assert [e for e in events if 0 <= e.t_ms <= report.total_time_ms] == []
