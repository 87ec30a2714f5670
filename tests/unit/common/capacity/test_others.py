"""Processors, threads, descriptors, and kills: what binds us, and in which words."""

from __future__ import annotations

import errno
import os
import re
import resource
from pathlib import Path

import pytest

from pageferry.common.capacity import descriptors
from pageferry.common.capacity.agents import check_guest, check_pair, guest_words
from pageferry.common.capacity.cpus import usable_cpus
from pageferry.common.capacity.descriptors import (
    check_children,
    check_descriptors,
    free_descriptors,
)
from pageferry.common.capacity.exhausted import ran_out
from pageferry.common.capacity.memory import Room
from pageferry.common.capacity.oom import OomWatch, how_ended
from pageferry.common.capacity.tasks import check_tasks, task_rooms
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import UsageError
from tests.support.proc_trees import Tree


def test_the_machine_and_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    assert (usable_cpus(tmp_path).count, usable_cpus(tmp_path).source) == (8, "this machine")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3})
    assert (usable_cpus(tmp_path).count, usable_cpus(tmp_path).source) == (1, "the CPU affinity")


@pytest.mark.parametrize(
    ("quota", "count"), [(50_000, 1), (100_000, 1), (150_000, 2), (400_000, 4), (2_000_000, 8)]
)
def test_a_groups_quota_limits_the_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: int, count: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    tree = Tree(tmp_path)
    tree.v1("/a/b")
    period = {"cpu_cfs_period_us": 100_000}
    tree.group("sys/fs/cgroup/cpu,cpuacct/a/b", cpu_cfs_quota_us=-1, **period)
    tree.group("sys/fs/cgroup/cpu,cpuacct/a", cpu_cfs_quota_us=quota, **period)
    found = usable_cpus(tmp_path)
    assert (found.count, found.quota) == (count, quota / 100_000)
    if count < 8:
        assert found.source == f"cpu cgroup /a's quota of {quota / 1e5:g} CPUs"
    tree.v2("/a/b")
    tree.group("sys/fs/cgroup/a/b", cpu_max="max 100000")
    tree.group("sys/fs/cgroup/a", cpu_max=f"{quota} 100000")
    assert usable_cpus(tmp_path) == found


def test_the_least_quota_of_all_levels(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v2("/a/b")
    tree.group("sys/fs/cgroup/a/b", cpu_max="90000 100000")
    tree.group("sys/fs/cgroup/a", cpu_max="30000 100000")
    assert usable_cpus(tmp_path).quota == 0.3


def test_more_threads_than_the_group_has_left_are_refused(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v1("/x")
    tree.group("sys/fs/cgroup/pids/x", pids_max=50, pids_current=38)
    assert [str(r) for r in task_rooms(tmp_path)] == ["12 are free of pids cgroup /x's 50"]
    check_tasks("a source", 12, tmp_path)
    with pytest.raises(UsageError, match="a source needs 13 threads and processes, and 12 are"):
        check_tasks("a source", 13, tmp_path)


def test_threads_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (100, 100))
    tree = Tree(tmp_path)
    for pid, uid in ((1, 0), (20, 1000), (21, 1000)):
        tree.write(f"proc/{pid}/status", f"Name:\tx\nUid:\t{uid}\t{uid}\t0\t0\nThreads:\t30\n")
    assert [str(r) for r in task_rooms(tmp_path)] == ["40 are free of this user (ulimit -u)'s 100"]


def test_more_descriptors_than_are_free_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_descriptors()
    with open(os.devnull, "rb"):
        assert free_descriptors() == free - 1
    check_descriptors("a source", free)
    with pytest.raises(
        UsageError, match=rf"a source needs {free + 1} file descriptors, and {free}"
    ):
        check_descriptors("a source", free + 1)
    with pytest.raises(UsageError, match="beside 2 that others will need"):
        check_descriptors("a source", free - 1, beside=2)
    monkeypatch.setattr(descriptors, "descriptor_limit", lambda: 12)
    with pytest.raises(UsageError, match=r"needs 13 .*a process may have 12 here \(ulimit -n\)"):
        check_children("an agent", 13)


@pytest.mark.parametrize("version", [1, 2])
def test_a_kill_for_want_of_memory_is_named(tmp_path: Path, version: int) -> None:
    tree = Tree(tmp_path)
    limit = 300 * 2**20
    if version == 1:
        tree.v1("/x")
        folder, counts = "sys/fs/cgroup/memory/x", "memory_oom_control"
        tree.group(folder, memory_limit_in_bytes=limit)
    else:
        tree.v2("/x")
        folder, counts = "sys/fs/cgroup/x", "memory_events"
        tree.group(folder, memory_max=limit)
    tree.group(folder, **{counts: "under_oom 0\noom_kill 4"})
    watch = OomWatch(tmp_path)
    assert how_ended(-9, watch) == "SIGKILL"
    assert how_ended(1, watch) is None
    tree.group(folder, **{counts: "under_oom 0\noom_kill 5"})
    assert how_ended(-9, watch) == (
        "SIGKILL (out of memory: the kernel killed in memory cgroup /x, whose limit is 300MiB)"
    )
    assert how_ended(-6, watch) == "SIGABRT"


def test_a_kill_of_the_machine(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.machine()
    watch = OomWatch(tmp_path)
    tree.write("proc/vmstat", "oom_kill 1\n")
    assert "out of memory, it seems" in str(how_ended(-9, watch))


def _caused(error: BaseException) -> BaseException:
    try:
        raise ValueError from error
    except ValueError as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "x"), r"out of file descriptors: .*\(ulimit -n\)"),
        (_caused(OSError(errno.EMFILE, "x")), "out of file descriptors"),
        (OSError(errno.ENFILE, "x"), "fs.file-max"),
        (OSError(errno.ENOMEM, "x"), "out of memory"),
        (MemoryError(), "out of memory"),
        (ImportError("x.so: failed to map segment from shared object"), "out of memory"),
        (RuntimeError("can't start new thread"), "no more threads"),
        (BlockingIOError(errno.EAGAIN, "x"), "no more threads"),
    ],
)
def test_what_ran_out_is_named_with_its_limit(error: BaseException, words: str) -> None:
    said = ran_out(error)
    assert said is not None
    assert re.search(words, said)


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "x"), RuntimeError("x"), ImportError("y")])
def test_another_failure_is_no_want_of_memory(error: BaseException) -> None:
    assert ran_out(error) is None


def test_a_cache_that_is_large_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size may be the whole of the reason, and the guest's is no help then."""
    room = Room(2**30, 2**30, "this machine")
    monkeypatch.setattr("pageferry.common.capacity.memory.rooms", lambda _root: [room])
    large = MigrationConfig(memory=16 * 2**20, cache=2**36)
    named = r"a guest of 16MiB and a cache of 64GiB \(--cache\)"
    with pytest.raises(UsageError, match=f"{named} with an agent at both ends does not fit"):
        check_pair(large)
    with pytest.raises(UsageError, match=f"{named} does not fit"):
        check_guest(large.guest)
    assert guest_words(MigrationConfig().guest) == "a guest of 1GiB"
