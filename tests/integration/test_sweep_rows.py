"""What a sweep says of where its cells ran, and of how many runs its figures are."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tests.support.command_line import PYTHON, environment, pageferry

TINY = """
[options]
memory = "4MiB"
warmup = "0s"
run-after = "0s"
max-bandwidth = "{rate}"
workload = "uniform:working-set=50%"
{more}
[grid]
strategy = ["pre-copy", "stop-and-copy"]
"""
VERSIONS = "SELECT DISTINCT python, numba, numpy FROM results"
# In a worker's interpreter: what it says of itself is another one's.
OTHER = """
import importlib.metadata
real = importlib.metadata.version
importlib.metadata.version = lambda name: "0.1.2" if name == "numba" else real(name)
with __import__("contextlib").suppress(ImportError):
    import toolz
    toolz.__version__ = "0.0.1"
"""


def sweep(folder: Path, text: str, *options: str, timeout: float = 100) -> str:
    """Run it, whatever becomes of the cells; what it complained about."""
    (folder / "plan.toml").write_text(text)
    run = pageferry("sweep", "plan.toml", "--quiet", *options, cwd=folder, timeout=timeout)
    assert "Traceback" not in run.stderr
    return run.stderr


def test_rows_say_with_what_a_cell_was_run(tmp_path: Path) -> None:
    sweep(tmp_path, TINY.format(rate="100MB/s", more=""), "--runner", "simulate")
    shown = pageferry(
        "sweep", "show", "plan-simulate", "--sql", VERSIONS, "--csv", "-", cwd=tmp_path
    )
    assert shown.exit_code == 0, shown.stderr
    (row,) = shown.stdout.split()[1:]
    assert row == f"{platform.python_version()},{version('numba')},{version('numpy')}"


def test_a_cell_that_failed_says_it_too(tmp_path: Path) -> None:
    sweep(tmp_path, TINY.format(rate="1MB/s", more='timeout = "50ms"'))
    shown = pageferry("sweep", "show", "plan", "--sql", VERSIONS, "--csv", "-", cwd=tmp_path)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.split()[1:] == [
        f"{platform.python_version()},{version('numba')},{version('numpy')}"
    ]
    shown = pageferry("sweep", "show", "plan", cwd=tmp_path)
    text = " ".join(shown.stdout.split())
    assert "run once" not in text
    assert "No run has moved its guest whole" in text


def test_results_of_an_earlier_version_are_still_shown(tmp_path: Path) -> None:
    """Their records say nothing of versions."""
    sweep(tmp_path, TINY.format(rate="100MB/s", more=""), "--runner", "simulate")
    for record in (tmp_path / "plan-simulate/cells").iterdir():
        text = record.read_text()
        start = text.find(',\n "versions"')
        end = text.find("}", start) + 1
        record.write_text(text[:start] + text[end:] if start >= 0 else text)
    shown = pageferry("sweep", "show", "plan-simulate", cwd=tmp_path)
    assert shown.exit_code == 0, shown.stderr
    assert "pre-copy" in shown.stdout


def started(command: list[str], folder: Path, path: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=environment(PYTHONPATH=path),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A scheduler and two workers, of which one says that it has another numba; its address."""
    (folder / "other").mkdir()
    (folder / "other/sitecustomize.py").write_text(OTHER)
    where = folder / "scheduler.json"
    start = [PYTHON, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    join = [PYTHON, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(where)]
    join += ["--no-nanny", "--no-dashboard", "--nthreads", "1", "--local-directory", str(folder)]
    path = environment()["PYTHONPATH"]
    start += ["--scheduler-file", str(where)]
    running = [started(start, folder, path)]
    try:
        for more in (path, f"{folder / 'other'}:{path}"):
            running.append(started(join, folder, more))
        code = (
            "import sys, distributed\n"
            "client = distributed.Client(scheduler_file=sys.argv[1], timeout=60)\n"
            "client.wait_for_workers(2, timeout=60)\n"
            "print(client.scheduler.address)\n"
        )
        deadline = time.monotonic() + 60
        while not where.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found = subprocess.run(
            [PYTHON, "-W", "ignore", "-c", code, str(where)],
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
            env=environment(),
        )
        yield found.stdout.strip()
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait(60)


def test_workers_that_are_not_alike_are_named(tmp_path: Path) -> None:
    with cluster(tmp_path) as address:
        plan = TINY.format(rate="100MB/s", more="")
        said = sweep(tmp_path, plan, "--runner", "simulate", "--scheduler", address, timeout=200)
    assert "Mismatched versions" not in said
    lines = [line for line in said.splitlines() if "not alike" in line]
    assert len(lines) == 1, said
    line = lines[0]
    assert "numba is" in line
    assert "0.1.2 on tcp://" in line
    shown = pageferry(
        "sweep", "show", "plan-simulate", "--sql", VERSIONS, "--csv", "-", cwd=tmp_path
    )
    numbas = {row.split(",")[1] for row in shown.stdout.split()[1:]}
    assert numbas <= {"0.1.2", version("numba")}
