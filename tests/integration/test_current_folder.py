"""A folder with a `random.py` of somebody's: no process that a command starts runs it."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CHECKOUT, PYTHON, RUN_S, SMALL, command, environment
from tests.support.tiers import FULL, full_only

OURS = ("common", "source_agent", "dest_agent", "pageferry", "scripts", "tests")
DECOY = """with open({marker!r}, "a") as file, open("/proc/self/cmdline") as words:
    file.write(__name__ + ": " + words.read().replace(chr(0), " ") + chr(10))
raise ImportError("a decoy")
"""
PLAN = """
runner = "migrate"
[options]
memory = "4MiB"
warmup = "0s"
run-after = "0s"
max-bandwidth = "unlimited"
"""
CALCULATED = """
runner = "simulate"
[options]
memory = "4MiB"
link = "rate=1gbit"
"""
LACKEY = "==1== Lackey\nI  04001000,3\n S 1ffeffe7e,8\n L 04222c4f8,8\n"
QUICK = ("--warmup", "0s", "--run-after", "0s", "--memory", "4MiB", "--max-bandwidth", "unlimited")
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/net/tun"),
    reason="needs root and /dev/net/tun, for network namespaces",
)
whole = pytest.mark.full


@functools.cache
def importable() -> frozenset[str]:
    """Names of all modules that could be imported, ours among them."""
    names = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions(), *OURS}
    return frozenset(filter(str.isidentifier, names))


class Decoys:
    """A folder in which every module that could be imported has a namesake."""

    def __init__(self, folder: Path, *, without: frozenset[str] = frozenset()) -> None:
        self.folder = folder / "here"
        self.folder.mkdir()
        self._marker = folder / "ran"
        for name in importable() - without:
            decoy = DECOY.format(marker=str(self._marker))
            (self.folder / f"{name}.py").write_text(decoy)
        (self.folder / "plan.toml").write_text(PLAN)
        (self.folder / "calculated.toml").write_text(CALCULATED)
        (self.folder / "lackey.txt").write_text(LACKEY)

    @property
    def ran(self) -> list[str]:
        """Module and command line of each that somebody has run."""
        return self._marker.read_text().splitlines() if self._marker.exists() else []

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """A command in there, to its end."""
        return subprocess.run(
            words,
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    @contextlib.contextmanager
    def running(self, words: list[str], until: str) -> Iterator[str]:
        """A command in there that has said so, on either stream; what follows on that line."""
        said = self.folder / f"said-{time.monotonic_ns()}"
        with said.open("wb") as output:
            process = subprocess.Popen(
                words, cwd=self.folder, env=environment(), stdout=output, stderr=output
            )
        try:
            deadline = time.monotonic() + RUN_S
            while until not in (text := said.read_text()):
                assert self.ran == []
                assert process.poll() is None, text
                assert time.monotonic() < deadline, text
                time.sleep(0.05)
            yield text.partition(until)[2].split()[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(RUN_S)


@pytest.fixture
def decoys(tmp_path: Path) -> Decoys:
    return Decoys(tmp_path)


ONE_COMMAND = [
    pytest.param(["migrate", *SMALL, "--link", "relay", "--net", "rate=400mbit"], id="keeper"),
    pytest.param(["sweep", "plan.toml", "--quiet"], id="sweep"),
    pytest.param(["net", "exec", "src", "--name", "none", "--", "true"], id="net"),
    pytest.param(["migrate", *SMALL, "--net", "rate=800mbit"], id="namespaces", marks=[needs_root]),
    *(
        pytest.param(words, id=words[0], marks=[whole, full_only])
        for words in (
            ["compare", *QUICK, "--strategies", "stop-and-copy,post-copy"],
            ["reproduce", "--quick"],
            ["predict", "--memory", "16MiB"],
            ["simulate", "--memory", "1GiB", "--link", "rate=10gbit"],
            ["simulate", "--evacuate", "3", "--link", "rate=25gbit"],
            ["model"],
            ["inject", "list"],
            ["certs", "keys"],
            ["trace", "import", "lackey.txt", "a.npz"],
            ["migrate", *SMALL, "--html", "a.html", "--compress", "zstd", "--channels", "2"],
        )
    ),
]


@pytest.mark.parametrize("words", ONE_COMMAND)
def test_no_process_of_a_command(decoys: Decoys, words: list[str]) -> None:
    done = decoys.run(command(*words))
    assert decoys.ran == []
    expected = 2 if words[0] == "net" else 0  # there is no network of that name
    assert done.returncode == expected, done.stderr


def test_neither_end_of_two_agents(decoys: Decoys) -> None:
    dest = command("dest", "--listen", "127.0.0.1:0", "--once")
    with decoys.running(dest, "127.0.0.1:") as port:
        source = ("source", "--to", f"127.0.0.1:{port.rstrip(',')}", *SMALL, "--quiet")
        done = decoys.run(command(*source))
    assert decoys.ran == []
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
def test_no_cell_on_a_cluster(decoys: Decoys) -> None:
    """Scheduler and worker are the user's, with a safe path; the cell's process is ours.

    What a cell starts is started as without a cluster: there are agents with --full.
    """
    plan = "plan.toml" if FULL else "calculated.toml"
    dask = [PYTHON, "-P", "-m", "distributed.cli.dask_"]
    quiet = ["--no-dashboard", "--host", "127.0.0.1"]
    scheduler = [*dask[:-1], dask[-1] + "scheduler", *quiet, "--port", "0"]
    with decoys.running(scheduler, "Scheduler at:") as address:
        worker = [*dask[:-1], dask[-1] + "worker", address, "--no-nanny", *quiet]
        with decoys.running(worker, "Registered to:"):
            done = decoys.run(command("sweep", plan, "--scheduler", address, "--quiet"))
    assert decoys.ran == []
    assert done.returncode == 0, done.stderr


@functools.cache
def loaded_by_python() -> frozenset[str]:
    """What an interpreter of that `python -m` has loaded before the module's first line."""
    code = "import runpy, sys; print(*sys.modules)"
    done = subprocess.run([PYTHON, "-P", "-c", code], capture_output=True, text=True, check=True)
    return frozenset(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["pageferry.cli", "pageferry.source_agent", "pageferry.dest_agent"]
)
def test_not_even_by_python_m(tmp_path: Path, module: str) -> None:
    """There the folder is on the path before us, and is taken off it at once."""
    decoys = Decoys(tmp_path, without=loaded_by_python() | {module.partition(".")[0]})
    done = decoys.run([PYTHON, "-m", module, "--help"])
    assert decoys.ran == []
    assert done.returncode == 0, done.stderr


def test_the_scripts_that_set_up(tmp_path: Path) -> None:
    """By an interpreter that only says how it was started: first start, and again."""
    project = tmp_path / "project"
    for name in ("scripts/run", "scripts/_env.sh", "pyproject.toml", "pageferry/_version.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, project / name)
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/started\n'
        'case "$*" in *"-m venv "*) for where; do :; done;'
        ' mkdir -p "$where/bin" && cp "$0" "$where/bin/python";; esac\n'
    )
    python.chmod(0o755)
    for _ in range(2):
        subprocess.run(
            [str(project / "scripts/run")],
            cwd=tmp_path,
            env=environment(PYTHON=str(python)),
            timeout=RUN_S,
            check=True,
            capture_output=True,
        )
    started = (tmp_path / "started").read_text().splitlines()
    modules = [line for line in started if "-m " in line]
    kinds = ["venv", "pip", "pageferry.cli", "pageferry.cli"]
    assert [line.partition("-m ")[2].split()[0] for line in modules] == kinds
    assert all(line.startswith("-P -m ") for line in modules)


def test_the_path_of_a_user_stays(tmp_path: Path) -> None:
    """PYTHONPATH is theirs, for our processes, and PYTHONSAFEPATH is not set for their own."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        f"seen = {str(tmp_path / 'seen')!r}\n"
        "with open(seen, 'a') as file, open('/proc/self/cmdline') as words:\n"
        "    print(words.read().replace(chr(0), ' '), os.environ['PYTHONPATH'],"
        " os.environ.get('PYTHONSAFEPATH'), file=file)\n"
    )
    path = f"{tmp_path}{os.pathsep}{CHECKOUT}"
    done = subprocess.run(
        command("migrate", *SMALL, "--quiet"),
        cwd=tmp_path,
        env=environment(PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "seen").read_text().splitlines()
    assert len(lines) == 3
    assert all(line.endswith(f"{path} None") for line in lines)
    assert all(" -P -m " in line for line in lines)
