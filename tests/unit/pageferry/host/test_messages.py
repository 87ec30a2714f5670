"""What a host is asked and what it answers: round trips, and refusals that name the field."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from pageferry.common.config.guest import GuestConfig
from pageferry.common.config.transfer import TransferConfig
from pageferry.common.errors import RemoteProtocolError
from pageferry.common.process.status import Status
from pageferry.common.report.schema import Report
from pageferry.host import messages as m

INFO = m.GuestInfo(
    name="g", state="running", memory=2**20, vcpus=1, workload="idle", steps=1, here_s=0.5, note=""
)
ASKED: list[BaseModel] = [
    m.List(),
    m.Boot(config=GuestConfig(memory=2**22, workload="zipf"), name="a-b.c_1"),
    m.MoveGuest(to="h:1", transfer=TransferConfig(strategy="post-copy", max_bandwidth=math.inf)),
    m.CancelMove(),
    m.Digest(guest="g"),
    m.Resume(force=True),
    m.Shutdown(),
]
ANSWERED: list[BaseModel] = [
    m.Listed(host="::1", port=4444, guests=[INFO], incoming=1),
    m.Booted(guest=INFO),
    m.MoveProgress(status=Status(phase="round 1")),
    m.Moved(
        report=Report(
            session="s",
            strategy="pre-copy",
            path=None,
            outcome="failed",
            config={"max_bandwidth": "unlimited"},
            events=[{"t_ms": 1.0, "agent": "dest", "event": "ready", "more": [1]}],
        ),
        error="x",
        exit_code=1,
    ),
    m.Digested(
        name="g", config=GuestConfig(), steps=[2**62], digest="0" * 32, check=None, paused_ms=0.1
    ),
    m.Done(said="x"),
    m.RequestFailed(reason="x", exit_code=2),
]


@pytest.mark.parametrize("message", ASKED, ids=lambda message: message.kind)
def test_a_request_comes_as_it_went(message: BaseModel) -> None:
    line = m.encode_line(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert m.decode_line(line, m.REQUESTS) == message


@pytest.mark.parametrize("message", ANSWERED, ids=lambda message: message.kind)
def test_an_answer_comes_as_it_went(message: BaseModel) -> None:
    assert m.decode_line(m.encode_line(message), m.REPLIES) == message


def test_every_kind_has_an_example() -> None:
    for kinds, examples in ((m.Request, ASKED), (m.Reply, ANSWERED)):
        assert set(get_args(get_args(kinds)[0])) == {type(each) for each in examples}


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"kind": "move", "to": "h:1", "colour": "red"}, "colour"),
        ({"kind": "move", "to": "h:1", "guest": "../g"}, "guest"),
        ({"kind": "move", "to": "h:1", "guest": "G"}, "guest"),
        ({"kind": "move", "to": "h" * 301}, "to"),
        ({"kind": "move", "to": "h:1", "warmup": -1}, "warmup"),
        ({"kind": "move", "to": "h:1", "transfer": {"strategy": "teleport"}}, "strategy"),
        ({"kind": "move", "to": "h:1", "transfer": {"low": 0.9, "high": 0.1}}, "transfer"),
        ({"kind": "boot", "config": {"memory": 17}}, "memory"),
        ({"kind": "boot"}, "config"),
        ({"kind": "listed", "guests": []}, "listed"),
        ({"kind": "shutdown", "force": True}, "force"),
        ([], "its start"),
    ],
)
def test_a_refusal_names_the_field(fields: Any, where: str) -> None:
    with pytest.raises(RemoteProtocolError, match=where):
        m.decode_line(json.dumps(fields).encode(), m.REQUESTS)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_noise_is_refused(line: bytes) -> None:
    kinds: TypeAdapter[Any] = m.REQUESTS
    with pytest.raises(RemoteProtocolError):
        m.decode_line(line, kinds)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        m.decode_line(b"[" * 30_000, m.REQUESTS)
