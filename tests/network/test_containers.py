"""The two agents in two containers: a root file system and a network namespace each, no privileges.

What container engines do, done by bubblewrap, since images cannot be had everywhere: users of their
own, other processes unseen, read-only system, own /tmp, and a filter of system calls that refuses
userfaultfd, as their default profiles do. The network between the two is one of ours.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pageferry.commands.certs import certs
from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest.compiling import compile_kernels
from pageferry.common.report.schema import Report
from pageferry.net.enter import prefix
from pageferry.net.link import NetworkLink
from pageferry.net.namespaces import ADDRESS, End, namespace
from pageferry.net.shape import parse_shape
from pageferry.net.spec import LinkSpec
from tests.support import network_needs
from tests.support.confined import USERFAULTFD, program
from tests.support.harness import Agent
from tests.support.warm_kernels import copy_kernels

PROJECT = Path(__file__).parents[2]
WORKLOAD = "zipf:working-set=50%,rate=20MB/s"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ssl", "/etc/ld.so.cache")


def why_not() -> str | None:
    """What is missing for containers, if anything."""
    if shutil.which("bwrap") is None:
        return "needs bwrap (bubblewrap), for containers"
    if (reason := network_needs.why_not()) is not None:
        return reason
    tried = subprocess.run(
        ["bwrap", *enclosure(), "true"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"bwrap: {tried.stderr.strip()}"


def enclosure() -> list[str]:
    """A root file system of its own, made of what is read-only here; a user of its own."""
    words = [
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup",
    ]
    words += ["--uid", "10001", "--gid", "10001", "--die-with-parent", "--as-pid-1"]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108
    for place in dict.fromkeys((*SYSTEM, sys.base_prefix, sys.prefix, str(PROJECT))):
        words += ["--ro-bind-try", place, place]
    return words


pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


class Container(Agent):
    """A `pageferry` command in a container, at one end of a network."""

    def __init__(self, name: str, end: End, home: Path, arguments: Sequence[str]) -> None:
        read_fd, write_fd = os.pipe()
        filter_fd, filter_in = os.pipe()
        os.write(filter_in, program(USERFAULTFD[platform.machine()]))
        os.close(filter_in)
        self.process = subprocess.Popen(
            [
                *(*prefix(namespace(name, end)), "bwrap", *enclosure()),
                *("--bind", str(home), "/home", "--chdir", str(PROJECT)),
                *("--seccomp", str(filter_fd), "--clearenv"),
                *("--setenv", "HOME", "/home", "--setenv", "PATH", "/usr/bin"),
                *("--setenv", "XDG_CACHE_HOME", "/home"),
                *(sys.executable, "-m", "pageferry.cli", *arguments, "--status-fd", str(write_fd)),
                *("--supervisor", "0"),  # whose process is in another world
            ],
            pass_fds=[write_fd, filter_fd],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(write_fd)
        os.close(filter_fd)
        self._status = os.fdopen(read_fd)


@contextlib.contextmanager
def contained(name: str, end: End, home: Path, *arguments: str) -> Iterator[Container]:
    running = Container(name, end, home, arguments)
    try:
        yield running
    finally:
        running.kill()


def make_home(folder: Path, keys: Path) -> Path:
    """With compiled kernels and the keys of one host: copies, since nothing else is shared."""
    compile_kernels(GuestConfig(memory="1MiB", workload=WORKLOAD))
    copy_kernels(folder)
    shutil.copytree(keys, folder / "keys")
    return folder


def test_a_guest_moves_from_one_container_to_another(tmp_path: Path) -> None:
    certs(tmp_path / "keys", host=["source", f"dest,{ADDRESS['dst']}"])
    homes = {
        end: make_home(tmp_path / end, tmp_path / "keys" / host)
        for end, host in (("src", "source"), ("dst", "dest"))
    }
    name = f"test-{os.getpid()}-{secrets.token_hex(3)}"
    spec = LinkSpec(kind="namespaces", name=name, shape=parse_shape("rate=200mbit"))
    with (
        NetworkLink(spec),
        contained(
            *(name, "dst", homes["dst"]),
            *("dest", "--listen", "0.0.0.0:4444", "--tls", "/home/keys", "--once"),
        ) as dest,
    ):
        dest.wait_status(lambda key, _value: key == "listening")
        with contained(
            *(name, "src", homes["src"], "source", "--to", f"{ADDRESS['dst']}:4444"),
            *("--tls", "/home/keys", "--memory", "16MiB", "--workload", WORKLOAD),
            *("--strategy", "post-copy", "--warmup", "100ms", "--run-after", "100ms"),
            *("--json", "/home/report.json"),
        ) as source:
            moved = source.end()
        received = dest.end()
    assert moved.exit_code == 0, moved.stderr
    assert received.exit_code == 0, received.stderr
    assert not (homes["dst"] / "report.json").exists()
    report = Report.model_validate_json((homes["src"] / "report.json").read_text())
    assert report.verified is True
    assert report.postcopy is not None
    assert report.postcopy.mechanism == "software"
    assert "Operation not permitted" in report.postcopy.mechanism_reason
    assert report.postcopy.pages_pulled > 0
