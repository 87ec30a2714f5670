"""A log on a disk that is full, or becomes so: one line, and the migration goes on."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.support import entering
from tests.support.command_line import SMALL, Run, command, run_words


def on_a_small_disk(folder: Path, kib: int, fill: bool, *arguments: str) -> Run:
    """Run where `folder` is a file system of its own, in a mount namespace of its own."""
    if os.geteuid() != 0:
        pytest.skip("a file system of its own takes root")
    where = shlex.quote(str(folder))
    script = f"mount -t tmpfs -o size={kib}k pageferry {where} || exit 99"
    if fill:
        script += f"; head -c 1G /dev/zero > {where}/filling 2>/dev/null; true"
    steps = [("mounts",), ("shell", script)]
    run = run_words(entering.command(steps, command(*arguments)))
    if run.exit_code == 99:
        pytest.skip(f"no file system can be mounted here: {run.stderr.strip()}")
    return run


@pytest.mark.parametrize(("kib", "fill"), [(4, False), (16, True)], ids=["fills", "is full"])
def test_the_migration_goes_on(kib: int, fill: bool, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    run = on_a_small_disk(
        logs, kib, fill, "migrate", *SMALL, "--quiet", "--json", "-", "--log-dir", str(logs)
    )
    assert run.exit_code == 0, run.stderr
    assert run.json["outcome"] == "completed"
    assert len(run.lines) == 1, run.stderr
    assert f"--log-dir: {logs}" in run.complaint
    assert "No space left on device" in run.complaint


def test_a_comparison_says_it_once(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    options = ("--strategies", "stop-and-copy,pre-copy", "--quiet", "--log-dir", str(logs))
    run = on_a_small_disk(logs, 16, True, "compare", *SMALL, *options)
    assert run.exit_code == 0, run.stderr
    assert 1 <= len(run.lines) <= 2, run.stderr
    assert "No space left on device" in run.complaint
