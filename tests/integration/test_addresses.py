"""Names with several addresses, IPv6 zones, and what is no address."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import entering
from tests.support.command_line import CHECKOUT, command, environment, pageferry
from tests.support.commands import Agent, agent, destination
from tests.support.tiers import some

_IP = shutil.which("ip") or "ip"
NAMESPACE = f"pfd{os.getpid()}"
HOSTS = Path("/etc/netns") / NAMESPACE / "hosts"
SMALL = ("--memory", "16MiB", "--warmup", "0s", "--run-after", "0s", "--max-bandwidth", "unlimited")


def ip(*words: str) -> None:
    subprocess.run([_IP, *words], check=True, capture_output=True)


def why_not() -> str | None:
    if os.getuid() or shutil.which("ip") is None:
        return "needs root and ip, to make a network namespace"
    try:
        ip("netns", "add", NAMESPACE)
        ip("-n", NAMESPACE, *["link", "add", "silent", "type", "veth", "peer", "name", "other"])
    except subprocess.CalledProcessError as error:
        return f"no network namespace with an interface of its own: {error.stderr.decode().strip()}"
    return None


@pytest.fixture(scope="module")
def inside() -> Iterator[tuple[entering.Step, ...]]:
    """A namespace: what a command does to be in it. An interface from which nothing comes back."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    try:
        for words in (
            "link set lo up",
            "link set silent up",
            "link set other up",
            "addr add 2001:db8::2/64 dev silent nodad",
            "addr add fe80::a/64 dev silent nodad",
            "addr add 192.0.2.9/32 dev lo",
            # Somebody is there, as far as the link knows, and takes no packet.
            "neigh add 2001:db8::1 lladdr 02:00:00:00:00:01 dev silent nud permanent",
        ):
            ip("-n", NAMESPACE, *words.split())
        HOSTS.parent.mkdir(parents=True)
        HOSTS.write_text(
            "2001:db8::1 silent-first.test\n192.0.2.9 silent-first.test\n"
            "127.0.0.1 both.test\n::1 both.test\n2001:db8::1 silent.test\n"
        )
        yield (("network", NAMESPACE),)
    finally:
        subprocess.run([_IP, "netns", "del", NAMESPACE], check=False)
        shutil.rmtree(HOSTS.parent, ignore_errors=True)


class Inside(Agent):
    """A `pageferry` command in the namespace."""

    def __init__(self, steps: tuple[entering.Step, ...], *arguments: str) -> None:
        self.process = subprocess.Popen(
            entering.command(steps, command(*arguments)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd=CHECKOUT,
        )
        self.said = ""


@pytest.mark.parametrize(
    ("listen", "to", "said"),
    some(
        [
            ("192.0.2.9", "silent-first.test", r"192\.0\.2\.9:\d+"),
            (
                "both.test",
                "127.0.0.1",
                r"127\.0\.0\.1:(\d+) and \[::1\]:\1|\[::1\]:(\d+) and 127.*:\2",
            ),
            ("both.test", "[::1]", "listening"),
            ("[fe80::a%silent]", "[fe80::a%silent]", r"\[fe80::a%silent\]:\d+"),
        ],
        3,
    ),
)
def test_a_guest_moves(inside: tuple[entering.Step, ...], listen: str, to: str, said: str) -> None:
    dest = Inside(inside, "dest", "--listen", f"{listen}:0", "--once", "--insecure")
    try:
        port = dest.wait_said(r"listening on .*:(\d+)", 30)[1]
        assert re.search(said, dest.said), dest.said
        source = Inside(inside, "source", "--to", f"{to}:{port}", "--quiet", *SMALL)
        try:
            run = source.end()
        finally:
            source.kill()
        assert run.exit_code == 0, run.stderr
        came = dest.end().stderr
        if ":" in to:
            assert re.search(r"a migration from \[[0-9a-f:]+(%silent)?\]:\d+", came), came
    finally:
        dest.kill()


def test_the_limit_is_said_and_what_was_tried(inside: tuple[entering.Step, ...]) -> None:
    began = time.monotonic()
    source = Inside(inside, "source", "--to", "silent.test:4444", *SMALL)
    try:
        run = source.end(60)
    finally:
        source.kill()
    assert run.exit_code == 1
    assert re.search(r"silent\.test:4444 \(2001:db8::1\) within 10 s", run.complaint), run.stderr
    assert time.monotonic() - began < 40


@pytest.mark.parametrize(
    "address", ["tcp:127.0.0.1:4444", "tcp://127.0.0.1:4444", "TCP:[::1]:4444", "unix:/run/x:1"]
)
@pytest.mark.parametrize("arguments", [("source", "--to"), ("dest", "--listen"), ("move", "--to")])
def test_a_scheme_is_no_part_of_an_address(arguments: tuple[str, ...], address: str) -> None:
    if arguments[0] != "source" and not address.startswith("tcp:"):
        pytest.skip("one of them does for each command")
    run = pageferry(*arguments, address, timeout=60)
    assert run.exit_code == 2
    scheme = re.match(r"\w+:(//)?", address)
    assert scheme is not None
    assert f"expected HOST:PORT without '{scheme[0]}'" in run.complaint
    assert "IPv6" not in run.complaint


@pytest.mark.parametrize("zone", ["nosuch0", "1²"])
def test_an_interface_that_does_not_exist_is_named(zone: str) -> None:
    run = pageferry("source", "--to", f"[fe80::1%{zone}]:4444", *SMALL)
    assert run.exit_code == 1
    assert f"no network interface {zone!r}" in run.complaint


def test_an_ipv6_address_is_said_in_brackets() -> None:
    run = pageferry("source", "--to", "[::1]:9", *SMALL)
    assert run.exit_code == 1
    assert "can't connect to [::1]:9:" in run.complaint


@pytest.fixture
def host() -> Iterator[tuple[str, int, str]]:
    """A host with a guest: its control socket, its port, the guest's name."""
    options = ("--memory", "16MiB", "--workload", "idle", "--boot")
    with agent("host", "--listen", "127.0.0.1:0", *options) as running:
        port = running.wait_said(r"listening on \S+?:(\d+), control socket (\S+)", 60)
        running.wait_said(r"guest \S+ runs here", 60)
        name = re.search(r"guest (\S+) runs here", running.said)
        assert name is not None
        yield port[2], int(port[1]), name[1]


class TestMove:
    def test_to_a_port_where_nobody_listens(self, host: tuple[str, int, str]) -> None:
        run = pageferry("move", "--host", host[0], "--to", "127.0.0.1:9")
        assert run.exit_code == 1
        assert "is 'pageferry host' running there?" in run.complaint
        assert "pageferry dest" not in run.stderr

    def test_a_move_to_the_same_host_is_refused(self, host: tuple[str, int, str]) -> None:
        run = pageferry("move", "--host", host[0], "--to", f"127.0.0.1:{host[1]}")
        assert run.exit_code == 2
        assert "this very host" in run.complaint
        listed = pageferry("host", "list", "--host", host[0], "--json", "-")
        assert [guest["state"] for guest in listed.json["guests"]] == ["running"]


def test_a_destination_says_where_it_listens_with_brackets() -> None:
    with destination(listen="[::1]:0") as (dest, port):
        assert f"[::1]:{port}" in dest.said
