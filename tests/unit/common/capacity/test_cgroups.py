"""Where the files of our control groups are, on kernels and in containers of all kinds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.capacity.cgroups import fields, groups, parse_memberships, parse_mounts
from tests.support.proc_trees import Tree


def paths(tree: Tree, controller: str = "memory") -> list[tuple[str, str]]:
    return [
        (group.path, str(group.folder.relative_to(tree.root)))
        for group in groups(controller, tree.root)
    ]


def test_every_level_of_version_1(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v1("/a/b")
    for folder in ("", "/a", "/a/b"):
        tree.group(f"sys/fs/cgroup/memory{folder}")
    assert paths(tree) == [
        ("/a/b", "sys/fs/cgroup/memory/a/b"),
        ("/a", "sys/fs/cgroup/memory/a"),
        ("/", "sys/fs/cgroup/memory"),
    ]


def test_a_container_of_version_1_without_a_namespace_of_groups(tmp_path: Path) -> None:
    """It sees its own group at the mount's point, under the name that the host has for it."""
    tree = Tree(tmp_path)
    tree.v1("/docker/0123", mount_root="/docker/0123")
    tree.group("sys/fs/cgroup/memory")
    assert paths(tree) == [("/docker/0123", "sys/fs/cgroup/memory")]


def test_version_2_in_a_container_with_a_namespace(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v2("/")
    tree.group("sys/fs/cgroup")
    assert paths(tree) == [("/", "sys/fs/cgroup")]


def test_a_mount_from_above_our_namespace(tmp_path: Path) -> None:
    """What is between is not known; what is mounted is above us for sure."""
    tree = Tree(tmp_path)
    tree.v2("/", mount_root="/../..")
    tree.group("sys/fs/cgroup")
    assert paths(tree) == [("/../..", "sys/fs/cgroup")]
    tree.v2("/../other", mount_root="/..")
    tree.group("sys/fs/cgroup/other")
    assert paths(tree)[0] == ("/../other", "sys/fs/cgroup/other")
    tree.v2("/../other", mount_root="/")  # our group is beside what is mounted
    assert paths(tree) == []


def test_controllers_that_share_a_hierarchy(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v1("/a")
    tree.group("sys/fs/cgroup/cpu,cpuacct/a")
    assert paths(tree, "cpu") == [("/a", "sys/fs/cgroup/cpu,cpuacct/a")]


def test_both_versions_at_once(tmp_path: Path) -> None:
    """A hybrid: which has the controller is seen by its files."""
    tree = Tree(tmp_path)
    tree.v1("/a")
    text = (tmp_path / "proc/self/mountinfo").read_text()
    unified = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    tree.write("proc/self/mountinfo", text + unified)
    for folder in ("memory/a", "unified"):
        tree.group(f"sys/fs/cgroup/{folder}")
    assert [group.version for group in groups("memory", tmp_path)] == [1, 2]


def test_of_several_mounts_the_one_that_shows_most(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v2("/a/b")
    nested = (
        "50 23 0:26 /a/b /mnt/own rw - cgroup2 cgroup2 rw\n"
        "51 23 0:26 /other /mnt/other rw - cgroup2 cgroup2 rw\n"
    )
    tree.write(
        "proc/self/mountinfo", nested + (tmp_path / "proc/self/mountinfo").read_text() + nested
    )
    for folder in ("mnt/own", "mnt/other", "sys/fs/cgroup", "sys/fs/cgroup/a", "sys/fs/cgroup/a/b"):
        tree.group(folder)
    assert [path for path, _ in paths(tree)] == ["/a/b", "/a", "/"]
    for folder in ("", "/a", "/a/b"):  # another file system hides it
        (tmp_path / f"sys/fs/cgroup{folder}/cgroup.procs").unlink()
    assert paths(tree) == [("/a/b", "mnt/own")]


def test_names_with_blanks_and_colons(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.v2("/a b:c")
    tree.write(
        "proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/my\\040groups rw - cgroup2 cgroup2 rw\n",
    )
    tree.group("sys/fs/my groups/a b:c")
    assert paths(tree) == [("/a b:c", "sys/fs/my groups/a b:c")]


def test_nothing_of_all_that(tmp_path: Path) -> None:
    """No /proc, as in some sandboxes."""
    assert groups("memory", tmp_path) == []


@given(st.text())
def test_whatever_the_files_hold(text: str) -> None:
    parse_memberships(text)
    parse_mounts(text)
    fields(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oom_kill 3\n", {"oom_kill": 3}),
        ("MemTotal:       24684400 kB\n", {"MemTotal": 24684400}),
        ("RssAnon:\t   59 kB\n", {"RssAnon": 59}),
        ("Uid:\t1000\t0\n", {"Uid": 1000}),
        ("x " + 5000 * "9", {}),
        ("max\nx y\n", {}),
    ],
)
def test_fields_are_parsed_and_what_is_no_number_is_left_out(
    text: str, expected: dict[str, int]
) -> None:
    assert fields(text) == expected
