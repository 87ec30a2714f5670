"""Clients of a host that go away rudely, while it has something to say to them."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from pageferry.common.config.transfer import TransferConfig
from pageferry.host import messages as m
from tests.support.hosts import RunningHost, running_host

GUEST = ("--boot", "--guest", "g", "--memory", "16MiB", "--workload", "uniform:rate=1MB/s")
POST_COPY = TransferConfig(strategy="post-copy", max_bandwidth=8e6)
CLIENTS = 8
REQUESTS = 40  # of each


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RunningHost, RunningHost]]:
    with (
        running_host(tmp_path, "a", *GUEST, "--quiet") as first,
        running_host(tmp_path, "b", "--quiet") as second,
    ):
        uvloop.run(first.wait_for("g", "running"))
        yield first, second


def asked(host: RunningHost, request: m.List | m.MoveGuest) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(host.control))
    sock.sendall(m.encode_line(request))
    return sock


def rude(host: RunningHost, seed: int) -> None:
    """Ask, and go without an answer, before it or in the middle of it."""
    rng = random.Random(seed)  # noqa: S311
    for _ in range(REQUESTS):
        with asked(host, m.List()) as sock:
            if rng.random() < 0.3:
                sock.shutdown(socket.SHUT_RD)
            elif rng.random() < 0.5:
                sock.recv(rng.choice([1, 100]))


def test_who_asked_for_a_move_goes_while_its_progress_is_sent_to_him(
    pair: tuple[RunningHost, RunningHost],
) -> None:
    """His transport closes at a write, and then raises at each call; others are rude meanwhile."""
    first, second = pair
    move = m.MoveGuest(to=f"127.0.0.1:{second.port}", transfer=POST_COPY)
    with asked(first, move) as sock, sock.makefile() as lines:
        for line in lines:
            said = json.loads(line)
            assert said["kind"] == "status", said
            if "follows" in said["status"]["phase"]:
                break
    clients = [threading.Thread(target=rude, args=(first, seed)) for seed in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    uvloop.run(second.wait_for("g", "running"))
    uvloop.run(first.wait_for("g", None))
    first.agent.process.terminate()
    run = first.agent.end()  # which looks for what asyncio says of neglected exceptions
    assert run.exit_code == 130, run.stderr
    assert "Traceback" not in run.stderr
