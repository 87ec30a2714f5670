"""Made-up trees of /proc and /sys/fs/cgroup, of kernels and containers that are not here."""

from __future__ import annotations

from pathlib import Path

MIB = 2**20
NONE_V1 = 9223372036854771712

V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime shared:7 master:3 - cgroup cgroup rw,memory
39 31 0:36 {root} /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 {root} /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
"""
V1_GROUPS = """\
9:name=systemd:{path}
8:pids:{path}
4:memory:{path}
2:cpu,cpuacct:{path}
0::/
"""
V2_MOUNTS = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V2_GROUPS = "0::{path}\n"
MEMINFO = "MemTotal: {total} kB\nMemFree: 0 kB\nMemAvailable: {available} kB\n"


class Tree:
    """Files below a folder that stands for the root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def machine(self, *, total: int = 64 * 1024 * MIB, available: int = 32 * 1024 * MIB) -> None:
        self.write("proc/meminfo", MEMINFO.format(total=total // 1024, available=available // 1024))
        self.write("proc/vmstat", "nr_free_pages 1\noom_kill 0\n")

    def v1(self, path: str, *, mount_root: str = "/") -> None:
        """Our place in every hierarchy; `mount_root`: what is seen of it, as containers have it."""
        self.machine()
        self.write("proc/self/mountinfo", V1_MOUNTS.format(root=mount_root))
        self.write("proc/self/cgroup", V1_GROUPS.format(path=path))

    def v2(self, path: str, *, mount_root: str = "/") -> None:
        self.machine()
        self.write("proc/self/mountinfo", V2_MOUNTS.format(root=mount_root))
        self.write("proc/self/cgroup", V2_GROUPS.format(path=path))

    def group(self, folder: str, **files: object) -> None:
        """A group's files; `memory_max=5` is memory.max."""
        self.write(f"{folder}/cgroup.procs", "")
        for name, value in files.items():
            self.write(f"{folder}/{name.replace('_', '.', 1)}", f"{value}\n")
