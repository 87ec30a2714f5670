"""Control messages: round trips, and refusals that name the field."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import LocalProtocolError, RemoteProtocolError
from pageferry.common.wire import messages
from pageferry.common.wire.results import (
    WireBeats,
    WireCache,
    WireEvent,
    WireLatency,
    WirePostcopy,
    WireSample,
)

SESSION = "0123456789abcdef" * 2
TOKEN = "fedcba9876543210" * 4
EXAMPLES: list[messages.Message] = [
    messages.Hello(role="bulk", session=SESSION, token=TOKEN, channel=3),
    messages.Welcome(version="1", host="h", clock="c"),
    messages.Refuse(reason="busy"),
    messages.Ping(t_ns=1),
    messages.Pong(t_ns=1, peer_ns=2),
    messages.Setup(
        guest=GuestConfig(memory=2**26, workload="zipf:skew=1.1"),
        channels=1,
        congestion="cubic",
        run_after=1.0,
        verify=True,
        checksum=True,
        vcpu_nice=0,
        keep="zipf-3f9a",
        postcopy=messages.PostcopySetup(
            faults="auto", prepage=-1, recover_timeout=30.0, trace_faults=False
        ),
    ),
    messages.Ready(),
    messages.RoundDone(index=1, t_ns=5),
    messages.Commit(barrier=2, snapshot={"steps": [1, 2**63], "state": b"\x00\x01"}),
    messages.Commit(barrier=0, snapshot={}, missing=b"\xff\x01", push=False),
    messages.Resumed(t_ns=5),
    messages.Complete(t_ns=5),
    messages.Resync(missing=b"\xff\x01"),
    messages.Finished(
        steps=[5],
        digest="0" * 32,
        check=None,
        cpu_s=0.5,
        received_bytes=10,
        beats=[WireBeats(first_ns=1, last_ns=2, gap_ns=1, gap_start_ns=1)],
        cache=WireCache(hits=1, misses=0, write_backs=0, spills=0, drained_lines=0),
        postcopy=WirePostcopy(
            faults=1,
            zero_fills=0,
            pages_pulled=1,
            pages_pushed=2,
            duplicates=0,
            latency_us=WireLatency(p50=1.0, p90=2.0, p99=3.0, p999=4.0, max=5.0),
            latencies=[(0, 1)],
            missing_over_time=[(1, 2)],
            trace=[(1, 2.0, 3, 0)],
        ),
        samples=[WireSample(t_ns=1, steps=2, dirtied_pages=3)],
        events=[WireEvent(t_ns=1, event="x", fields={"a": 1})],
    ),
    messages.Bye(),
    messages.Cancel(reason="x"),
    messages.Failed(reason="x"),
    messages.CommitOutcome(answer="never"),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.kind)
def test_an_encoded_message_decodes_to_itself(message: messages.Message) -> None:
    assert messages.decode_message(messages.encode_message(message)) == message


def test_every_kind_has_an_example() -> None:
    assert {type(message) for message in EXAMPLES} == set(messages.Message.__args__)


@given(st.binary(max_size=200))
def test_noise_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        messages.decode_message(body)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    kind=st.sampled_from([message.kind for message in EXAMPLES]),
    fields=st.dictionaries(
        st.sampled_from(["t_ns", "reason", "steps", "role", "session", "guest", "index", "x"]),
        values,
    ),
)
def test_wrong_fields_are_refused_or_valid(kind: str, fields: dict[str, object]) -> None:
    body = msgpack.packb({**fields, "kind": kind})
    try:
        message = messages.decode_message(body)
    except RemoteProtocolError:
        return
    assert message.kind == kind
    assert messages.decode_message(messages.encode_message(message)) == message


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"kind": "hello", "role": "bulk", "session": "short"}, "session"),
        ({"kind": "hello", "role": "root", "session": SESSION, "token": TOKEN}, "role"),
        ({"kind": "hello", "role": "bulk", "session": SESSION}, "token"),
        ({"kind": "ping", "t_ns": -1}, "t_ns"),
        ({"kind": "ping", "t_ns": 1, "more": 2}, "more"),
        ({"kind": "nonsense"}, "nonsense"),
        ({"kind": "round-done", "index": 2**32, "t_ns": 0}, "index"),
    ],
)
def test_the_refusal_names_the_field(fields: dict[str, object], where: str) -> None:
    with pytest.raises(RemoteProtocolError, match=where):
        messages.decode_message(msgpack.packb(fields))


def test_what_cannot_be_packed_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError):
        messages.encode_message(messages.Commit(barrier=1, snapshot={"x": object()}))
