"""A supervisor who stops reading what an agent says holds no migration up, and no end."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import pytest

from pageferry.common.process.status import PATIENCE_S, REPORT_S
from pageferry.common.report.schema import Report
from tests.support.running import Running, destination, running
from tests.support.tiers import FULL

PAGE = 4096  # the least that a pipe holds: some fifteen lines
SLOW = (  # two seconds, in which more is said than that
    *("--memory", "16MiB", "--warmup", "0s", "--run-after", "300ms", "--strategy", "post-copy"),
    *("--max-bandwidth", "8MB/s", "--workload", "uniform:rate=1MB/s"),
)


def narrow(agent: Running) -> None:
    fcntl.fcntl(agent._status, fcntl.F_SETPIPE_SZ, PAGE)


def test_who_reads_on_later_has_the_result_in_whole_lines() -> None:
    with destination("--once") as (dest, where), running("source", "--to", where, *SLOW) as source:
        narrow(source)
        ended = dest.end()  # the guest has moved and has had its run
        assert ended.exit_code == 0, ended.stderr
        lines: list[str] = []

        def is_report(key: str, _value: Any) -> bool:
            lines.append(key)
            return key == "report"

        report = source.wait_status(is_report)
        moved = source.end()
    assert moved.exit_code == 0, moved.stderr
    assert Report.model_validate(report).outcome == "completed"
    assert "status" in lines  # what had room


@pytest.mark.skipif(not FULL, reason="takes the half minute for which a report waits")
def test_who_never_reads_again_is_waited_for_so_long(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    with destination("--once") as (dest, where):
        arguments = ("source", "--to", where, *SLOW, "--json", str(file))
        with running(*arguments) as source:
            narrow(source)
            assert dest.end().exit_code == 0
            moved = source.end(REPORT_S + 4 * PATIENCE_S)
    assert moved.exit_code == 0, moved.stderr
    assert Report.model_validate_json(file.read_text()).outcome == "completed"
