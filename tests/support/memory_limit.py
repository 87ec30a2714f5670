"""Commands within a limit: a memory cgroup (v1) of ours, or what `ulimit` sets."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support import entering
from tests.support.command_line import RUN_S, Run, command, environment, run_words

MIB: Final = 2**20
ELSEWHERE: Final = Path("/")  # agents of some releases import what is in the current folder


class Group:
    """A control group of one controller. Commands are put into it before they are anything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set(self, name: str, value: int) -> None:
        (self.folder / name).write_text(f"{value}\n")

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    @property
    def procs(self) -> list[int]:
        """Who is in it."""
        return [int(pid) for pid in self.read("cgroup.procs").split()]

    def shell(self, *arguments: str) -> list[str]:
        """What starts `pageferry ARGUMENTS` in it."""
        return entering.command([("group", str(self.folder))], command(*arguments))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.shell(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd=ELSEWHERE,
        )

    def run(self, *arguments: str) -> Run:
        with self.start(*arguments) as running:
            out, err = running.communicate(timeout=RUN_S)
        return Run(running.returncode, out, err)

    def remove(self) -> None:
        """Once what was started in it has ended, and what that has started."""
        deadline = time.monotonic() + RUN_S
        while self.procs:
            assert time.monotonic() < deadline, self.procs
            time.sleep(0.005)
        self.folder.rmdir()


@contextlib.contextmanager
def group(controller: str, **values: int) -> Iterator[Group]:
    """A new one of cgroup v1 below our own; skips where it can't be had."""
    folder = _own(controller) / f"pageferry-test-{os.getpid()}-{controller}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no {controller} cgroup of version 1 can be made here: {error}")
    made = Group(folder)
    try:
        for name, value in values.items():
            made.set(name.replace("_", ".", 1), value)
        yield made
    finally:
        made.remove()


def _own(controller: str) -> Path:
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    for line in lines:
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return Path(f"/sys/fs/cgroup/{names}{path}")
    pytest.skip(f"no {controller} controller of cgroup v1 here")


def within(limit: str, *arguments: str) -> list[str]:
    """What starts `ulimit LIMIT; pageferry ARGUMENTS`."""
    return ["/bin/sh", "-c", f'ulimit {limit} && exec "$@"', "sh", *command(*arguments)]


def ulimited(limit: str, *arguments: str) -> Run:
    """Run that to its end."""
    return run_words(within(limit, *arguments), cwd=ELSEWHERE)
