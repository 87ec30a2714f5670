"""What is left of each limit of memory, and what a refusal says of it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from pageferry.common.capacity.memory import Room, check_memory, own_rooms, rooms, rough_size
from pageferry.common.errors import UsageError
from tests.support.proc_trees import MIB, NONE_V1, Tree


def named(tree: Tree) -> dict[str, int]:
    """Free MiB by whose limit it is."""
    return {room.source: room.free // MIB for room in rooms(tree.root)}


def v1(tree: Tree, folder: str, limit: int, used: int, cached: int = 0, above: int = 0) -> None:
    tree.group(
        f"sys/fs/cgroup/memory{folder}",
        memory_limit_in_bytes=limit,
        memory_usage_in_bytes=used,
        memory_stat=f"inactive_file 0\nhierarchical_memory_limit {above or limit}\n"
        f"total_inactive_file {cached}",
    )


def v2(tree: Tree, folder: str, limit: object, used: int, cached: int = 0, **more: object) -> None:
    tree.group(
        f"sys/fs/cgroup{folder}",
        memory_max=limit,
        memory_current=used,
        memory_stat=f"anon 5\ninactive_file {cached}",
        **more,
    )


def test_files_that_are_not_in_use_do_not_count(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v1("/x")
    v1(tree, "/x", 300 * MIB, used=200 * MIB, cached=150 * MIB)
    assert named(tree) == {"this machine": 32 * 1024, "memory cgroup /x": 250}
    tree.v2("/x")
    v2(tree, "/x", 300 * MIB, used=200 * MIB, cached=150 * MIB)
    assert named(tree)["memory cgroup /x"] == 250


def test_a_parent_binds_as_well(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v1("/pod/x")
    v1(tree, "/pod/x", 300 * MIB, used=0)
    v1(tree, "/pod", 400 * MIB, used=350 * MIB)
    v1(tree, "", NONE_V1, used=900 * MIB)
    assert named(tree) == {
        "this machine": 32 * 1024,
        "memory cgroup /pod/x": 300,
        "memory cgroup /pod": 50,
    }
    tree.v2("/pod/x")
    v2(tree, "/pod/x", "max", used=0)
    v2(tree, "/pod", 400 * MIB, used=350 * MIB)
    assert named(tree)["memory cgroup /pod"] == 50
    assert "memory cgroup /pod/x" not in named(tree)


def test_a_parent_that_a_container_does_not_see(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v1("/docker/x", mount_root="/docker/x")
    v1(tree, "", NONE_V1, used=100 * MIB, above=500 * MIB)
    assert named(tree)["the memory cgroups above /docker/x"] == 400


def test_memory_high_holds_a_guest_up(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v2("/x")
    v2(tree, "/x", "max", used=20 * MIB, memory_high=100 * MIB)
    assert named(tree)["memory cgroup /x (memory.high)"] == 80


def test_swap_that_is_used_counts_where_it_is_limited(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v1("/x")
    v1(tree, "/x", 300 * MIB, used=50 * MIB)
    tree.group(
        "sys/fs/cgroup/memory/x",
        **{"memory_memsw.limit_in_bytes": 300 * MIB, "memory_memsw.usage_in_bytes": 280 * MIB},
    )
    assert named(tree)["memory cgroup /x with its swap"] == 20


def test_a_group_over_its_limit_has_nothing_left(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v2("/x")
    v2(tree, "/x", 100 * MIB, used=150 * MIB)
    assert named(tree)["memory cgroup /x"] == 0


def test_a_machine_that_promises_no_more_than_it_has(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.machine()
    tree.write(
        "proc/meminfo",
        f"MemAvailable: {900 * 1024} kB\nCommitLimit: {1000 * 1024} kB\n"
        f"Committed_AS: {800 * 1024} kB\n",
    )
    assert named(tree) == {"this machine": 900}
    tree.write("proc/sys/vm/overcommit_memory", "2\n")
    assert named(tree)["this machine's commit limit (vm.overcommit_memory=2)"] == 200


def test_nothing_is_known_where_nothing_tells(tmp_path: Path) -> None:
    assert rooms(tmp_path) == []
    check_memory("a guest of 1TiB", 2**40, root=tmp_path)


def test_the_refusal_has_the_figure_and_whose_it_is(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v1("/x")
    v1(tree, "/x", 300 * MIB, used=60 * MIB)
    check_memory("a guest", 240 * MIB, root=tmp_path)
    expected = "240MiB is free of memory cgroup /x's 300MiB"
    with pytest.raises(UsageError, match=f"a guest does not fit: it needs 241MiB, and {expected}"):
        check_memory("a guest", 241 * MIB, root=tmp_path)
    with pytest.raises(UsageError, match=f"needs 200MiB beside 100MiB that .*, and {expected}"):
        check_memory("a guest", 200 * MIB, beside=100 * MIB, root=tmp_path)


def test_address_space_that_somebody_else_takes_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(tmp_path)
    tree.machine()
    tree.write("proc/self/statm", f"{100 * 256} 1 1 1 0 1 0\n")
    tree.write("proc/self/status", f"VmPeak:\t9 kB\nVmData:\t  {30 * 1024} kB\n")
    limits = {resource.RLIMIT_AS: 400 * MIB, resource.RLIMIT_DATA: 200 * MIB}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits[which], -1))
    assert [(room.free // MIB, room.kind) for room in own_rooms(tmp_path)] == [
        (300, "mapped"),
        (170, "mapped"),
    ]
    with pytest.raises(UsageError, match=r"170MiB of address space is free of .*ulimit -d"):
        check_memory("a guest", 171 * MIB, root=tmp_path)
    check_memory("a guest", 171 * MIB, root=tmp_path, here=False)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (4096, "4KiB"), (3 * MIB + 5, "3MiB"), (2**30 + MIB, "1025MiB")],
)
def test_a_rough_size_is_rounded_down_as_an_option_takes_it(size: int, text: str) -> None:
    assert rough_size(size) == text
    assert str(Room(size, size, "x")) == f"{text} is free of x's {text}"
