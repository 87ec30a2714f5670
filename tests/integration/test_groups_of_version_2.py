"""Limits of control groups of version 2, by made-up files that lie over a mounted hierarchy."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import entering
from tests.support.command_line import SMALL, Run, command, run_words
from tests.support.memory_limit import ELSEWHERE, MIB

TINY = ("--warmup", "0s", "--run-after", "0s", "--max-bandwidth", "unlimited")
NOT_HERE = 77


class Container:
    """Two groups, one in the other: `OUTER/inner`, which commands are in."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        self.outer = f"pageferry-test-{os.getpid()}-2"
        self.inner = f"{self.outer}/inner"

    def shell(self, script: str) -> Run:
        """Run it where the hierarchy is mounted, which nobody else sees."""
        where = shlex.quote(str(self.mount))
        mounting = f"mount --make-rprivate / && mount -t cgroup2 none {where} || exit {NOT_HERE}"
        words = ["unshare", "--mount", "sh", "-c", f"{mounting}\n{script}"]
        return run_words(words, cwd=ELSEWHERE)

    def make(self) -> Run:
        return self.shell(f"mkdir -p '{self.mount}/{self.inner}' || exit {NOT_HERE}")

    def remove(self) -> None:
        self.shell(f"rmdir '{self.mount}/{self.inner}' '{self.mount}/{self.outer}'")

    def run(self, files: dict[str, str], *arguments: str) -> Run:
        """`pageferry ARGUMENTS` in the inner one. files: by `inner/NAME` or `outer/NAME`."""
        where = shlex.quote(str(self.mount))
        lines = [
            f"mount -t cgroup2 none {where} || exit {NOT_HERE}",
            f"cd {where} && echo $PPID > '{self.inner}/cgroup.procs' || exit {NOT_HERE}",
            f"mount -t tmpfs none '{self.mount}' && cd '{self.mount}' && mkdir -p '{self.inner}'",
            f"touch cgroup.procs '{self.outer}/cgroup.procs' '{self.inner}/cgroup.procs'",
        ]
        for name, text in files.items():
            group, _, file = name.partition("/")
            folder = {"inner": self.inner, "outer": self.outer}[group]
            lines.append(f"printf '%s\\n' {shlex.quote(text)} > '{folder}/{file}'")
        steps = [("mounts",), ("shell", "\n".join(lines))]
        run = run_words(entering.command(steps, command(*arguments)), cwd=ELSEWHERE)
        if run.exit_code == NOT_HERE:
            pytest.skip(f"no made-up control group here: {run.stderr.strip()}")
        return run


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    if os.geteuid() != 0:
        pytest.skip("needs root, for mounts of its own")
    (tmp_path / "groups").mkdir()
    made = Container(tmp_path / "groups")
    done = made.make()
    try:
        if done.exit_code:
            pytest.skip(f"no control group of version 2 can be made here: {done.stderr.strip()}")
        yield made
    finally:
        made.remove()


def memory(group: str, limit: int | str, used: int = 20 * MIB, cached: int = 0) -> dict[str, str]:
    return {
        f"{group}/memory.max": str(limit),
        f"{group}/memory.current": str(used),
        f"{group}/memory.stat": f"anon {used - cached}\ninactive_file {cached}",
        f"{group}/memory.events": "oom 0\noom_kill 0",
    }


@pytest.mark.parametrize("binding", ["inner", "outer"])
@pytest.mark.parametrize("size", ["512MiB", "128MiB"], ids=["once", "at both ends"])
def test_what_does_not_fit_is_not_begun(container: Container, binding: str, size: str) -> None:
    """By its own limit, and by the one of the group that it is in."""
    free = "outer" if binding == "inner" else "inner"
    files = {**memory(binding, 300 * MIB), **memory(free, "max")}
    run = container.run(files, "migrate", "--memory", size, *TINY)
    assert run.exit_code == 2, run.stdout
    name = container.inner if binding == "inner" else container.outer
    assert re.search(rf"280MiB is free of memory cgroup /{name}'s 300MiB", run.complaint)


def test_file_cache_that_nobody_uses_is_free(container: Container) -> None:
    """Of the same use of the same limit: what is left depends on what it is of."""
    asked = ("migrate", "--memory", "64MiB", *TINY)
    full = memory("inner", 600 * MIB, used=590 * MIB, cached=10 * MIB)
    run = container.run(full, *asked)
    assert run.exit_code == 2, run.stdout
    assert "20MiB is free" in run.complaint
    run = container.run(memory("inner", 600 * MIB, used=590 * MIB, cached=570 * MIB), *asked)
    assert run.exit_code == 0, run.stderr


@pytest.mark.parametrize("binding", ["inner", "outer"])
def test_a_quota_of_processors(container: Container, binding: str) -> None:
    files = {"inner/cpu.max": "max 100000", "outer/cpu.max": "150000 100000"}
    files[f"{binding}/cpu.max"] = "50000 100000"
    run = container.run(files, "migrate", *SMALL, "--compress", "zstd", "--json", "-")
    assert run.exit_code == 0, run.stderr
    config = run.json["config"]
    assert (config.get("cpus"), config.get("cpu_quota")) == (1, 0.5)


def test_a_limit_of_threads(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a command that is loaded anew in its group, with and without --full."""
    monkeypatch.setenv("PAGEFERRY_TEST_LOADED_ANEW", "1")
    run = container.run({"inner/pids.max": "12", "inner/pids.current": "1"}, "migrate", *SMALL)
    assert run.exit_code == 2, run.stdout
    assert re.search(rf"pids cgroup /{container.inner}'s 12", run.complaint)
