"""With an empty cache of kernels, nothing is compiled while a migration is under way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pageferry.common.report.schema import Report

SCRIPT = """
import json
import uvloop
from numba.core import event
from pageferry.common.config.model import MigrationConfig
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

async def run():
    config = MigrationConfig(memory=2**22, workload="uniform", strategy="pre-copy", warmup=0.05)
    async with listening() as (agent, port, said):
        session = SourceSession(config, ("127.0.0.1", port), timeline, lambda line: None)
        await session.run()
        return make_report(session.record)

print(uvloop.run(run()).to_json())
"""


def test_nothing_is_compiled_during_a_migration(tmp_path: Path) -> None:
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
    compiled = [(event.t_ms, event) for event in report.events if event.event == "compile"]
    assert compiled  # the cache was empty
    assert [event for t_ms, event in compiled if 0 <= t_ms <= report.total_time_ms] == []
