"""Whole migrations by a user without privileges, and where userfaultfd is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pageferry.common.report.schema import Report
from tests.support import entering
from tests.support.harness import RUN_S, command, migrate
from tests.support.nobody import NOBODY, as_nobody
from tests.support.tiers import FULL
from tests.support.warm_kernels import copy_kernels

WORKLOAD = "zipf:working-set=50%,rate=40MB/s"
OPTIONS = (
    *("migrate", "--memory", "16MiB", "--workload", WORKLOAD),
    *("--max-bandwidth", "50MB/s", "--warmup", "50ms", "--run-after", "50ms", "--json", "-"),
)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home of nobody's, with our compiled kernels in it.

    Not below pytest's own folder, which is closed to others: the cache would be taken for one that
    can't be written to, and every kernel compiled anew.
    """
    every_kernel = migrate("--memory", "4MiB", "--workload", WORKLOAD, "--strategy", "post-copy")
    assert every_kernel.exit_code == 0, every_kernel.stderr
    with tempfile.TemporaryDirectory(prefix="pageferry-home-") as name:
        where = Path(name)
        copy_kernels(where)
        if os.getuid() == 0:
            for path in (where, *where.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        yield where


def run(
    home: Path,
    *,
    refused: bool = False,
    anew: bool = FULL,
    strategy: tuple[str, ...] = ("post-copy",),
    faults: str = "auto",
) -> subprocess.CompletedProcess[str]:
    """A migration by that user. refused: no userfaultfd. anew: its processes are loaded there."""
    words = command(*OPTIONS, "--faults", faults, "--strategy", *strategy)
    environment = {**os.environ, "HOME": str(home)}
    if anew:
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CACHE_HOME": str(home)}
        words = [*as_nobody(), *(confined() if refused else ()), *words]
    else:
        steps = [("user", str(NOBODY))] if os.getuid() == 0 else []
        words = entering.command([*steps, *([("no userfaultfd",)] if refused else [])], words)
    return subprocess.run(
        words,
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )


def test_kernel_faults_without_privileges(home: Path) -> None:
    done = run(home, anew=True, faults="kernel")
    assert done.returncode == 0, done.stderr
    report = Report.model_validate_json(done.stdout)
    assert report.verified is True
    assert report.postcopy is not None
    assert report.postcopy.mechanism == "kernel"
    assert report.postcopy.pages_pulled > 0
    if os.getuid() == 0 or not os.access("/dev/userfaultfd", os.W_OK):
        assert "system call" in report.postcopy.mechanism_reason


def confined() -> list[str]:
    return [sys.executable, str(Path(__file__).parents[1] / "support" / "confined.py")]


def test_software_faults_where_the_system_call_is_refused(home: Path) -> None:
    if os.getuid() != 0 and os.access("/dev/userfaultfd", os.W_OK):
        pytest.skip("this user may open /dev/userfaultfd, which no filter of calls can refuse")
    done = run(home, refused=True, faults="auto")
    assert done.returncode == 0, done.stderr
    report = Report.model_validate_json(done.stdout)
    assert report.verified is True
    assert report.postcopy is not None
    assert report.postcopy.mechanism == "software"
    assert "Operation not permitted" in report.postcopy.mechanism_reason


def test_kernel_faults_asked_for_and_refused(home: Path) -> None:
    if os.getuid() != 0 and os.access("/dev/userfaultfd", os.W_OK):
        pytest.skip("this user may open /dev/userfaultfd, which no filter of calls can refuse")
    done = run(home, refused=True, faults="kernel")
    assert done.returncode != 0
    assert len(complaints(done.stderr)) == 1, done.stderr
    assert "Operation not permitted" in done.stderr


def complaints(stderr: str) -> list[str]:
    """Its lines but for those of progress, which come where it takes long."""
    return [line for line in stderr.splitlines() if line.startswith("pageferry: ")]


TRACKED = ("pre-copy", "--dirty-tracker", "kernel")


def test_the_kernel_tracks_without_privileges(home: Path) -> None:
    done = run(home, strategy=TRACKED)
    if done.returncode == 2 and "Linux 6.7" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    report = Report.model_validate_json(done.stdout)
    assert report.verified is True
    assert report.pages_resent > 0


def test_the_kernel_may_not_track_where_the_system_call_is_refused(home: Path) -> None:
    if os.getuid() != 0 and os.access("/dev/userfaultfd", os.W_OK):
        pytest.skip("this user may open /dev/userfaultfd, which no filter of calls can refuse")
    done = run(home, refused=True, strategy=TRACKED)
    assert done.returncode == 2
    (line,) = complaints(done.stderr)
    assert "--dirty-tracker kernel: no userfaultfd here" in line
    assert "Operation not permitted" in line
    assert "Linux 6.7" in line
