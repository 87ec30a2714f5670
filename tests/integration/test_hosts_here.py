"""Two hosts on one machine, as README has them: nobody is asked which of them is meant."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CHECKOUT, RUN_S, command, environment, pageferry

QUICK = ("--max-bandwidth", "unlimited")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def host(folder: Path, port: int, *options: str) -> Iterator[None]:
    """One that listens there, until it has said so, and to the end of the block."""
    with subprocess.Popen(
        command("host", "--listen", f"127.0.0.1:{port}", *options),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment(XDG_RUNTIME_DIR=str(folder)),
        cwd=CHECKOUT,
    ) as running:
        try:
            assert running.stderr is not None
            wanted = "runs" if "--boot" in options else "listening"
            for line in running.stderr:
                if wanted in line:
                    break
            yield
        finally:
            running.send_signal(signal.SIGINT)
            running.communicate(timeout=RUN_S)


def test_back_and_forth_between_two_hosts_of_one_machine(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    here = str(tmp_path)
    guest = ("--boot", "--guest", "web", "--workload", "web-browsing", "--memory", "16MiB")
    with host(tmp_path, first, *guest), host(tmp_path, second):
        listed = pageferry("host", "list", XDG_RUNTIME_DIR=here)
        assert listed.exit_code == 0, listed.stderr
        assert f"127.0.0.1:{second}: no guests" in listed.stdout
        assert "web" in listed.stdout
        there = pageferry("move", "--to", f"127.0.0.1:{second}", *QUICK, XDG_RUNTIME_DIR=here)
        assert there.exit_code == 0, there.stderr
        listed = pageferry("host", "list", "--json", "-", XDG_RUNTIME_DIR=here)
        (where,) = json.loads(listed.stdout)["guests"]
        assert (where["name"], where["state"]) == ("web", "running")
        assert f"host-{second}.sock" in where["host"]
        verified = pageferry("host", "verify", XDG_RUNTIME_DIR=here)
        assert verified.exit_code == 0, verified.stderr
        back = pageferry("move", "--to", f"localhost:{first}", *QUICK, XDG_RUNTIME_DIR=here)
        assert back.exit_code == 0, back.stderr
        again = pageferry("move", "--to", f"127.0.0.1:{first}", *QUICK, XDG_RUNTIME_DIR=here)
        assert again.exit_code != 0
        assert "which host" not in again.stderr
        unknown = pageferry("host", "verify", "--guest", "db", XDG_RUNTIME_DIR=here)
        assert unknown.exit_code == 2
        assert "none of 2 hosts here has a guest db" in unknown.complaint
        assert pageferry("host", "shutdown", XDG_RUNTIME_DIR=here).exit_code == 0
        nothing = pageferry("move", "--to", f"127.0.0.1:{first}", XDG_RUNTIME_DIR=here)
        assert nothing.exit_code == 2
        assert "none of 2 hosts here has a guest" in nothing.complaint


def test_two_guests_are_asked_about(tmp_path: Path) -> None:
    here = str(tmp_path)
    guest = ("--boot", "--memory", "16MiB")
    with (
        host(tmp_path, free_port(), *guest, "--guest", "a"),
        host(tmp_path, free_port(), *guest, "--guest", "b"),
    ):
        run = pageferry("host", "verify", XDG_RUNTIME_DIR=here)
        assert run.exit_code == 2
        assert "which host? 2 have a guest" in run.complaint
        assert run.complaint.count("host-") == 2
        assert pageferry("host", "verify", "--guest", "b", XDG_RUNTIME_DIR=here).exit_code == 0


@pytest.mark.parametrize("words", [("host", "list"), ("host", "verify"), ("move", "--to", "a:1")])
def test_no_host_at_all(words: tuple[str, ...], tmp_path: Path) -> None:
    run = pageferry(*words, XDG_RUNTIME_DIR=str(tmp_path))
    assert run.exit_code == 2
    assert "no host runs here" in run.complaint
