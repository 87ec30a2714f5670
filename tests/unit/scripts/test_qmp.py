"""The client against a server that speaks QMP as QEMU 7.2 does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pageferry.common.errors import PageferryError
from scripts.bench_qmp import Qmp

GREETING = {"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}
STOPPED = {"event": "STOP", "timestamp": {"seconds": 7, "microseconds": 250000}}
Lines = list[dict[str, Any]]


def moved(status: str, second: int) -> dict[str, Any]:
    at = {"seconds": second, "microseconds": 0}
    return {"event": "MIGRATION", "timestamp": at, "data": {"status": status}}


@contextmanager
def served(
    *answers: Lines, greeting: dict[str, Any] = GREETING, ends: bool = False
) -> Iterator[tuple[Qmp, Lines]]:
    """A client, and what the server was asked; it says so many lines to each request in turn.

    ends: it ends when it is asked once more, and does not answer.
    """
    asked: Lines = []
    near, far = socket.socketpair()

    def serve() -> None:
        with far, far.makefile("rwb") as file:
            file.write(json.dumps(greeting).encode() + b"\r\n")
            file.flush()
            for lines in ([{"return": {}}], *answers):
                request = file.readline()
                if not request:
                    return
                asked.append(json.loads(request))
                for line in lines:
                    file.write(json.dumps(line).encode() + b"\r\n")
                file.flush()
            while file.readline() and not ends:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    with near:
        try:
            yield Qmp(near), asked
        finally:
            near.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_it_takes_the_greeting_and_its_capabilities() -> None:
    with served([{"return": {"status": "running"}}]) as (qmp, asked):
        assert qmp.execute("query-status") == {"status": "running"}
    assert [each["execute"] for each in asked] == ["qmp_capabilities", "query-status"]


def test_underscores_of_arguments_are_hyphens() -> None:
    with served([{"return": {}}]) as (qmp, asked):
        qmp.execute("migrate-set-parameters", max_bandwidth=5)
    assert asked[-1]["arguments"] == {"max-bandwidth": 5}


def test_events_before_an_answer_are_kept() -> None:
    with served([STOPPED, {"return": 1}]) as (qmp, _asked):
        assert qmp.execute("stop") == 1
        stopped = qmp.first("STOP")
    assert stopped is not None
    assert stopped.t_s == 7.25


def test_it_waits_for_events_and_tells_states_apart() -> None:
    lines = [{"return": {}}, moved("setup", 1), moved("active", 2), moved("completed", 3)]
    with served(lines) as (qmp, _asked):
        qmp.execute("migrate")
        while qmp.first("MIGRATION", ("completed", "failed")) is None:
            qmp.wait(60)
        ended = qmp.first("MIGRATION", ("completed", "failed"))
        active = qmp.first("MIGRATION", ("active",))
    assert ended is not None
    assert active is not None
    assert (active.t_s, ended.t_s) == (2.0, 3.0)
    assert qmp.first("RESUME") is None


def test_a_wait_has_an_end() -> None:
    with served() as (qmp, _asked):
        qmp.wait(0.01)
        assert qmp.events == []


def test_a_refusal_is_said_in_its_words() -> None:
    refusal = {"error": {"class": "GenericError", "desc": "no such capability"}}
    with served([refusal]) as (qmp, _asked), pytest.raises(PageferryError, match="no such cap"):
        qmp.execute("migrate")


def test_an_end_is_said() -> None:
    with served(ends=True) as (qmp, _asked), pytest.raises(PageferryError, match="has ended"):
        qmp.execute("migrate")


def test_who_does_not_greet_is_no_qemu() -> None:
    with (
        pytest.raises(PageferryError, match="does not greet"),
        served(greeting={"return": {}}),
    ):
        pytest.fail("it was taken for one")
