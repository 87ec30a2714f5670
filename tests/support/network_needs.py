"""What the tests of shaped networks need, and what must not be left of one."""

from __future__ import annotations

import os
import subprocess

from pageferry.net.namespaces import found
from pageferry.net.spec import remembered
from tests.support.harness import wait_gone


def why_not() -> str | None:
    """What is missing for namespaces with a link, if anything."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun, for the userspace link"
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)  # noqa: S607
    return None if made.returncode == 0 else f"unshare --net: {made.stderr.decode().strip()}"


def networks_of(pid: int) -> list[str]:
    """Those that the `pageferry migrate` of that pid has made and not removed."""
    return [name for name in {*found(), *remembered()} if name.startswith(f"run-{pid}-")]


def assert_gone(pid: int, processes: list[int]) -> None:
    """Neither a network of that run is left, nor one of the processes that it had started."""
    assert wait_gone(processes) == []
    assert networks_of(pid) == []
