"""Hosts as users have them: processes, commands, Ctrl-C, and what is said where it can't be."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pageferry.common.config.transfer import TransferConfig
from pageferry.common.errors import EXIT_IN_DOUBT, PageferryError
from pageferry.host import messages as m
from pageferry.host.replay import replay_from_boot
from tests.support.harness import agent, destination, pageferry
from tests.support.hosts import RunningHost, running_host
from tests.support.known import known
from tests.support.relay import Cut, Relay, relay

GUEST = ("--boot", "--guest", "g", "--memory", "16MiB", "--workload", "zipf:rate=20MB/s")
SLOW = ("--max-bandwidth", "500kB/s", "--strategy", "pre-copy")
QUICK = TransferConfig(max_bandwidth=200e6, recover_timeout=0.5)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningHost, RunningHost]]:
    folder = tmp_path_factory.mktemp("hosts")
    with (
        running_host(folder, "a", *GUEST, "--quiet") as first,
        running_host(folder, "b", "--quiet") as second,
    ):
        uvloop.run(first.wait_for("g", "running"))
        yield first, second


@pytest.fixture
def pair(hosts: tuple[RunningHost, RunningHost]) -> tuple[RunningHost, RunningHost]:
    """A host with a guest `g`, and one without."""
    first, second = hosts

    async def as_in_the_beginning() -> None:
        if "g" not in await first.guests():
            await second.ask(m.MoveGuest(to=f"127.0.0.1:{first.port}", transfer=QUICK))
        assert (await first.guests(), await second.guests()) == ({"g": "running"}, {})

    uvloop.run(as_in_the_beginning())
    return first, second


@pytest.fixture
def own_pair(tmp_path: Path) -> Iterator[tuple[RunningHost, RunningHost]]:
    """The same, for tests that end them."""
    with running_host(tmp_path, "a", *GUEST) as first, running_host(tmp_path, "b") as second:
        uvloop.run(first.wait_for("g", "running"))
        yield first, second


def to(host: RunningHost) -> tuple[str, str]:
    return "--to", f"127.0.0.1:{host.port}"


def at(host: RunningHost) -> tuple[str, str]:
    return "--host", str(host.control)


def in_round_1(key: str, value: Any) -> bool:
    return key == "status" and value["phase"] == "round 1"


@contextlib.contextmanager
def answering(path: Path, line: bytes) -> Iterator[Path]:
    """What answers one request, with this line."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(line)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        thread.join()


# -- what one does with it ------------------------------------------------------------------------


def test_there_and_on_and_verified(pair: tuple[RunningHost, RunningHost]) -> None:
    first, second = pair
    run = pageferry("move", *at(first), *to(second), "--json", "-", "--strategy", "hybrid")
    assert run.exit_code == 0, run.stderr
    assert run.report.outcome == "completed"
    assert run.report.guest.runs_at == "dest"
    assert run.report.downtime_ms is not None
    assert known(run.report.guest.steps_before) > 0
    assert known(run.report.guest.steps_after) > 0
    events = {(event.agent, event.event) for event in run.report.events}
    assert {("source", "migration-start"), ("dest", "resumed"), ("dest", "guest-kept")} <= events
    listed = json.loads(pageferry("host", "list", *at(second), "--json", "-").stdout)
    assert [guest["name"] for guest in listed["guests"]] == ["g"]

    on = pageferry("move", *at(second), *to(first), "--json", "-", "--strategy", "post-copy")
    assert on.exit_code == 0, on.stderr
    steps, cache = on.report.guest, on.report.cache
    assert cache is not None  # counted since it was to be moved on, not since it had come
    seen = sum(map(known, (steps.steps_before, steps.steps_during, steps.steps_after)))
    assert cache.hits + cache.misses < 3 * seen
    run = pageferry("host", "verify", *at(first))
    assert run.exit_code == 0, run.stderr
    assert re.search("guest g is what it must be at step [0-9,]+: digest", run.stdout)


def test_verify_notices_a_guest_that_is_another(
    pair: tuple[RunningHost, RunningHost], tmp_path: Path
) -> None:
    """The host says another seed than the guest's: what is replayed is not what ran."""
    digested: m.Digested = uvloop.run(pair[0].ask(m.Digest()))
    other = digested.model_copy(update={"config": digested.config.model_copy(update={"seed": 2})})
    with answering(tmp_path / "liar.sock", m.encode_line(other)) as control:
        run = pageferry("host", "verify", "--host", str(control))
    assert run.exit_code == 3
    assert digested.digest in run.complaint


def test_a_source_agent_may_use_a_host_too(pair: tuple[RunningHost, RunningHost]) -> None:
    _, second = pair
    run = pageferry(
        "source",
        *to(second),
        "--memory",
        "16MiB",
        "--run-after",
        "0s",
        "--warmup",
        "0s",
        "--json",
        "-",
    )
    assert run.exit_code == 0, run.stderr
    assert run.report.verified is True
    assert uvloop.run(second.guests()) == {}


def test_a_guest_is_booted_and_shut_down(pair: tuple[RunningHost, RunningHost]) -> None:
    _, second = pair
    guest = ("--memory", "16MiB", "--workload", "uniform")
    run = pageferry("host", "boot", *at(second), *guest)
    assert run.exit_code == 0, run.stderr
    name = run.stdout.strip()
    assert name.startswith("uniform-")
    assert uvloop.run(second.guests()) == {name: "running"}
    run = pageferry("host", "boot", *at(second), *guest, "--guest", name)
    assert run.exit_code == 2
    assert "is here already" in run.complaint
    run = pageferry("host", "shutdown", *at(second))
    assert re.search(f"guest {name} was ended after [0-9,]+ steps", run.stdout)
    assert "no guests" in pageferry("host", "list", *at(second)).stdout


def test_the_only_host_need_not_be_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with agent("host", "--listen", "127.0.0.1:0") as running:
        said = running.wait_status(lambda key, _value: key == "listening")
        assert Path(said["control"]) == tmp_path / "pageferry" / f"host-{said['port']}.sock"
        assert "no guests" in pageferry("host", "list").stdout
        running.process.terminate()
        assert running.end().exit_code == 130
    assert list((tmp_path / "pageferry").iterdir()) == []


# -- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_move_is_interrupted(pair: tuple[RunningHost, RunningHost], number: int) -> None:
    first, second = pair

    async def others_must_wait() -> None:
        assert await first.guests() == {"g": "moving"}
        assert await second.guests() == {"g": "arriving"}
        for request in (m.Shutdown(), m.Digest(), m.MoveGuest(to="127.0.0.1:1")):
            with pytest.raises(PageferryError, match="is being moved"):
                await first.ask(request)
        with pytest.raises(PageferryError, match="still arriving"):
            await second.ask(m.MoveGuest(to="127.0.0.1:1"))

    with agent("move", *at(first), *to(second), *SLOW, "--json", "-") as moving:
        moving.wait_status(in_round_1)
        uvloop.run(others_must_wait())
        moving.process.send_signal(number)
        run = moving.end()
    assert run.exit_code == 130
    assert "cancelled" in run.complaint
    assert run.report.outcome == "cancelled"
    assert run.report.guest.runs_at == "source"
    uvloop.run(second.wait_for("g", None))
    assert uvloop.run(first.guests()) == {"g": "running"}


def test_a_guest_that_lacks_pages_is_not_moved_on(pair: tuple[RunningHost, RunningHost]) -> None:
    first, second = pair
    slow = ("--strategy", "post-copy", "--max-bandwidth", "4MB/s", "--json", "-")
    with agent("move", *at(first), *to(second), *slow) as moving:
        moving.wait_status(lambda key, value: key == "status" and "follows" in value["phase"])
        with pytest.raises(PageferryError, match="pages of it are missing"):
            uvloop.run(second.ask(m.MoveGuest(to=f"127.0.0.1:{first.port}")))
        moving.process.send_signal(signal.SIGINT)  # too late, and it must not hurt
        run = moving.end()
    assert run.exit_code == 0, run.stderr
    assert run.report.outcome == "completed"
    assert uvloop.run(second.guests()) == {"g": "running"}


def test_whoever_asked_is_killed(pair: tuple[RunningHost, RunningHost]) -> None:
    first, second = pair
    with agent("move", *at(first), *to(second), *SLOW) as moving:
        moving.wait_status(in_round_1)
        moving.process.kill()
        uvloop.run(first.wait_for("g", "running"))
    uvloop.run(second.wait_for("g", None))


def test_a_host_is_interrupted(own_pair: tuple[RunningHost, RunningHost]) -> None:
    first, second = own_pair
    with agent("move", *at(first), *to(second), *SLOW) as moving:
        moving.wait_status(in_round_1)
        first.agent.process.send_signal(signal.SIGINT)
        run = first.agent.end()
        assert moving.end().exit_code == 130
    assert run.exit_code == 4  # the guest went on there, and ended with it
    assert "guest g goes on here: cancelled" in run.stderr
    assert re.search("guest g was ended after [0-9,]+ steps", run.stderr)
    assert "Traceback" not in run.stderr
    assert not first.control.exists()
    uvloop.run(second.wait_for("g", None))


def test_a_host_that_is_interrupted_sees_a_hand_over_through(
    own_pair: tuple[RunningHost, RunningHost],
) -> None:
    first, second = own_pair
    slow = ("--strategy", "post-copy", "--max-bandwidth", "4MB/s", "--json", "-")
    with agent("move", *at(first), *to(second), *slow) as moving:
        moving.wait_status(lambda key, value: key == "status" and "follows" in value["phase"])
        first.agent.process.send_signal(signal.SIGINT)
        run = first.agent.end()
        assert moving.end().report.guest.runs_at == "dest"
    assert run.exit_code == 130
    assert "guest g: too late to cancel: the guest is being handed over" in run.stderr
    assert "guest g has moved" in run.stderr
    assert uvloop.run(second.guests()) == {"g": "running"}
    digested: m.Digested = uvloop.run(second.ask(m.Digest()))
    assert replay_from_boot(digested.config, digested.steps) == digested.digest


def test_a_host_that_receives_is_interrupted(own_pair: tuple[RunningHost, RunningHost]) -> None:
    first, second = own_pair
    with agent("move", *at(first), *to(second), *SLOW) as moving:
        moving.wait_status(in_round_1)
        second.agent.process.terminate()
        assert second.agent.end().exit_code == 130
        run = moving.end()
    assert run.exit_code == 1
    assert "was stopped" in run.complaint
    assert uvloop.run(first.guests()) == {"g": "running"}


# -- in doubt -------------------------------------------------------------------------------------


def before(word: bytes) -> Cut:
    """Once: the answer to a question has words of the message that it asks for."""
    words = [word]

    def cut(_sent: int, chunk: bytes) -> int | None:
        return chunk.find(words.pop()) if words and words[0] in chunk else None

    return cut


def doubtful(
    pair: tuple[RunningHost, RunningHost],
    then: Callable[[RunningHost, Relay], Awaitable[None]],
    *,
    cut: Cut,
    cut_back: Cut,
) -> None:
    """Move `g` over a wire that breaks about the commit and stays broken; see to it then."""
    first, second = pair

    async def run() -> None:
        async with relay(second.port, cut, cut_back) as (wire, port):
            wire.deaf_after_cut = True
            transfer = QUICK.model_copy(update={"strategy": "stop-and-copy"})
            moved: m.Moved = await first.ask(m.MoveGuest(to=f"127.0.0.1:{port}", transfer=transfer))
            assert moved.exit_code == EXIT_IN_DOUBT
            assert moved.report.outcome == "in-doubt"
            assert moved.report.guest.runs_at == "unknown"
            (guest,) = (await first.ask(m.List())).guests
            assert guest.state == "in-doubt"
            assert "host resume --guest g" in guest.note
            for other in (m.MoveGuest(to="127.0.0.1:1"), m.Digest()):
                with pytest.raises(PageferryError, match="in doubt"):
                    await first.ask(other)
            with pytest.raises(PageferryError, match=r"could not be asked.*--force") as asked:
                await first.ask(m.Resume(timeout=0.5))
            assert asked.value.exit_code == EXIT_IN_DOUBT
            await then(first, wire)

    uvloop.run(run())


NOWHERE: Cut = lambda _sent, _chunk: None  # noqa: E731


def test_a_guest_in_doubt_that_runs_there(pair: tuple[RunningHost, RunningHost]) -> None:
    async def then(first: RunningHost, wire: Relay) -> None:
        wire.refuse = False
        # What the destination says is not overruled.
        done: m.Done = await first.ask(m.Resume(force=True, timeout=0.5))
        assert "has moved" in done.said
        assert await first.guests() == {}

    doubtful(pair, then, cut=NOWHERE, cut_back=before(b"resumed"))
    assert uvloop.run(pair[1].guests()) == {"g": "running"}


def test_a_guest_in_doubt_that_never_came(pair: tuple[RunningHost, RunningHost]) -> None:
    async def then(first: RunningHost, wire: Relay) -> None:
        wire.refuse = False
        done: m.Done = await first.ask(m.Resume(timeout=0.5))
        assert "goes on here (never)" in done.said

    doubtful(pair, then, cut=before(b"commit"), cut_back=NOWHERE)
    assert uvloop.run(pair[0].guests()) == {"g": "running"}


def test_a_guest_in_doubt_is_released(pair: tuple[RunningHost, RunningHost]) -> None:
    async def then(first: RunningHost, _wire: Relay) -> None:
        done: m.Done = await first.ask(m.Resume(force=True, timeout=0.5))
        assert "goes on here (as you said" in done.said
        assert await first.guests() == {"g": "running"}
        with pytest.raises(PageferryError, match="nothing to decide"):
            await first.ask(m.Resume(timeout=0.5))

    doubtful(pair, then, cut=before(b"commit"), cut_back=NOWHERE)


def test_a_host_that_was_started_again_decides_nothing(
    own_pair: tuple[RunningHost, RunningHost], tmp_path: Path
) -> None:
    """The guest may have been moved on from there, before it forgot."""
    _, second = own_pair

    async def then(first: RunningHost, wire: Relay) -> None:
        second.agent.kill()
        where = ("--listen", f"127.0.0.1:{second.port}", "--control", str(tmp_path / "again.sock"))
        with agent("host", *where) as again:
            again.wait_status(lambda key, _value: key == "listening")
            wire.refuse = False
            with pytest.raises(PageferryError, match=r"has forgotten\. --force") as asked:
                await first.ask(m.Resume(timeout=2.0))
            assert asked.value.exit_code == EXIT_IN_DOUBT
            assert await first.guests() == {"g": "in-doubt"}

    doubtful(own_pair, then, cut=NOWHERE, cut_back=before(b"resumed"))


# -- what can't be --------------------------------------------------------------------------------

USAGE = {
    "unknown command": (("host", "explode"), "explode.*list.*verify"),
    "guest without boot": (("host", "--listen", "127.0.0.1:0", "--memory", "1GiB"), "--boot"),
    "name of a guest": (("host", "--listen", "127.0.0.1:0", "--boot", "--guest", "A/B"), "guest"),
    "too large": (
        ("host", "--listen", "127.0.0.1:0", "--control", "BOOT", "--boot", "--memory", "4TiB"),
        "4TiB.*free",
    ),
    "thresholds": (("move", "--host", "x", "--to", "h:1", "--low", "60%"), "--low 60%"),
    "log of a move": (("move", "--host", "x", "--to", "h:1", "--log-dir", "x"), "hosts that log"),
    "guest's options": (("move", "--host", "x", "--to", "h:1", "--memory", "1GiB"), "--memory"),
}


@pytest.mark.parametrize("name", USAGE)
def test_bad_usage_is_one_line_and_leaves_no_file(name: str, tmp_path: Path) -> None:
    arguments, expected = USAGE[name]
    quiet = ("--quiet",) if "BOOT" in arguments else ()
    filled = (str(tmp_path / "x.sock") if each == "BOOT" else each for each in arguments)
    run = pageferry(*filled, *quiet)
    assert run.exit_code == 2, run.stderr
    assert re.search(expected, run.complaint, re.IGNORECASE), run.complaint
    assert list(tmp_path.iterdir()) == []


def test_a_move_names_the_socket_at_which_no_host_listens(tmp_path: Path) -> None:
    run = pageferry("move", "--host", str(tmp_path / "x.sock"), "--to", "127.0.0.1:1")
    assert run.exit_code == 1
    assert f"no host listens at {tmp_path}/x.sock" in run.complaint


def test_moves_that_can_not_be(pair: tuple[RunningHost, RunningHost]) -> None:
    first, second = pair

    async def refused(address: str, **order: Any) -> PageferryError:
        with pytest.raises(PageferryError) as failed:
            await first.ask(m.MoveGuest(to=address, **order))
        return failed.value

    async def failed(port: int, exit_code: int = 1) -> str:
        moved: m.Moved = await first.ask(m.MoveGuest(to=f"127.0.0.1:{port}"))
        assert moved.exit_code == exit_code
        assert moved.report.guest.runs_at == "source"  # also where it never came to a connection
        return moved.error or ""

    async def run(dest: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            assert "refused" in await failed(free.getsockname()[1])
        assert "expected a 'pageferry host'" in await failed(dest)
        assert "is this very host: guest g stays here" in await failed(first.port, exit_code=2)
        there = f"127.0.0.1:{second.port}"
        lazy = QUICK.model_copy(update={"strategy": "lazy-copy"})
        for error, words in (
            (await refused(there, guest="h"), "no guest h here: expected g"),
            (await refused(there, transfer=lazy), "lazy-copy leaves pages behind"),
            (await refused("nowhere"), "HOST:PORT"),
        ):
            assert error.exit_code == 2
            assert words in str(error)
        assert await first.guests() == {"g": "running"}
        assert await second.guests() == {}

    with destination() as (_, port):
        uvloop.run(run(port))


def test_a_control_socket_of_another_host(own_pair: tuple[RunningHost, RunningHost]) -> None:
    first, _ = own_pair
    again = ("host", "--listen", "127.0.0.1:0", "--control", str(first.control))
    assert "in use" in pageferry(*again).complaint
    first.agent.kill()
    assert first.control.exists()  # it was given no time to see to it
    with agent(*again) as successor:
        successor.wait_status(lambda key, _value: key == "listening")
        assert "no guests" in pageferry("host", "list", *at(first)).stdout


def test_what_is_no_request(pair: tuple[RunningHost, RunningHost]) -> None:
    first, _ = pair
    for sent, words in (
        (b"\n", "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b'{"kind":"explode"}\n', "explode|kind"),
        (b'{"kind":"list","more":1}\n', "more"),
        (b'{"kind":"cancel"}\n', "no move"),
        (b'{"kind":"list"', "ended before"),
        (b"x" * 100_000 + b"\n", "65,536 bytes"),
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(first.control))
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            line = sock.makefile("rb").readline()
        failed: m.RequestFailed = m.decode_line(line, m.REPLIES)
        assert failed.kind == "failed"
        assert re.search(words, failed.reason), failed.reason
    assert uvloop.run(first.guests()) == {"g": "running"}
