"""Messages before they are unpacked, and before their turn."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.wire import bounds, messages
from pageferry.common.wire.budget import Budget
from pageferry.common.wire.extents import EXTENT, count_within
from pageferry.common.wire.inbox import MOST_MESSAGES, Inbox
from pageferry.dest_agent.postcopy.fetching import Offered
from pageferry.dest_agent.session.inbox import put_newest
from tests.unit.common.wire.test_messages import EXAMPLES


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(_count(key) + _count(inner) for key, inner in value.items())
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 1


VALUES = [
    *(None, True, 0, 127, 128, 2**16, 2**32, 2**64 - 1, -1, -32, -33, -(2**15), -(2**31), -(2**63)),
    *(1.5, "", "x" * 31, "x" * 32, "x" * 300, "x" * 70_000, b"", b"x" * 300, b"x" * 70_000),
    *([], [1] * 15, [1] * 16, [1] * 70_000, {}, {str(n): n for n in range(16)}),
    {"a": [{"b": [1, [], {}]}, 2.5]},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_objects_are_counted_without_making_them(value: Any) -> None:
    body = msgpack.packb(value)
    assert bounds.count_objects(body, 10**6, 10) == _count(value)
    with pytest.raises(RemoteProtocolError, match="more than"):
        bounds.count_objects(body, _count(value) - 1, 10)
    for cut in {0, len(body) // 2, len(body) - 1} - {len(body)}:
        with pytest.raises(RemoteProtocolError):
            bounds.count_objects(body[:cut], 10**6, 10)
    with pytest.raises(RemoteProtocolError, match="behind"):
        bounds.count_objects(body + b"\xc0", 10**6, 10)


def test_depth_is_bounded() -> None:
    assert bounds.count_objects(b"\x91" * 3 + b"\xc0", 10, 3) == 4
    with pytest.raises(RemoteProtocolError, match="deeper"):
        bounds.count_objects(b"\x91" * 4 + b"\xc0", 10, 3)
    with pytest.raises(RemoteProtocolError, match="deeper"):
        bounds.count_objects(b"\x91" * 2**20, 2**21, 3)


def test_a_type_that_is_not_ours() -> None:
    for body in (b"\xd4\x01\x00", b"\xc7\x00\x01", b"\xc1"):
        with pytest.raises(RemoteProtocolError, match="not ours"):
            bounds.count_objects(body, 10, 3)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda message: message.kind)
def test_each_of_our_messages_is_within_its_bounds(example: messages.Message) -> None:
    body = messages.encode_message(example)
    assert bounds.message_kind(body) == example.kind.encode()
    assert bounds.check_bounds(body) >= len(body)


def test_every_kind_has_bounds() -> None:
    kinds = {example.kind.encode() for example in EXAMPLES}
    assert set(bounds.BOUNDS) == kinds


@pytest.mark.parametrize("kind", [kind for kind in bounds.BOUNDS if kind != b"finished"])
def test_a_flood_of_objects_costs_nothing(kind: bytes) -> None:
    """An empty map is a byte on the wire and 64 in memory: 300 KiB would become 20 MB."""
    head = b"\x82\xa4kind" + bytes([0xA0 + len(kind)]) + kind + b"\xa8snapshot"
    body = head + b"\xdd\x00\x04\xb0\x00" + b"\x80" * 307_200
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            messages.decode_message(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * 1024


def test_ranges_are_summed_beside_each() -> None:
    twice = np.array([(0, 8), (0, 8)], EXTENT)
    with pytest.raises(RemoteProtocolError, match="16 pages of a guest of 8"):
        count_within(twice, 8)
    assert count_within(twice[:1], 8) == 8


def test_a_full_inbox_stops_its_reader_and_no_one_else() -> None:
    async def scenario() -> None:
        inbox: Inbox[object] = Inbox(Budget())

        async def read() -> None:
            for number in range(100):
                await inbox.take_in(number, 0)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        assert inbox.qsize() == MOST_MESSAGES
        inbox.put_nowait("ours")
        first = [await inbox.get() for _ in range(MOST_MESSAGES + 1)]
        assert first == [*range(MOST_MESSAGES), "ours"]
        rest = range(MOST_MESSAGES, 100)
        assert [await inbox.get() for _ in rest] == list(rest)
        await reading

    asyncio.run(scenario())


def test_what_we_put_in_can_be_taken_back() -> None:
    async def scenario() -> None:
        inbox: Inbox[object] = Inbox(Budget())
        inbox.put_nowait("one")
        await inbox.take_in("one", 5)
        inbox.put_nowait(2)
        assert inbox.take_back(lambda item: item == "one") == ["one"]
        assert [inbox.get_nowait(), inbox.get_nowait()] == ["one", 2]

    asyncio.run(scenario())


def test_only_the_newest_of_the_sources_that_are_back_waits() -> None:
    """Each has a descriptor, and one that is not taken would keep it."""

    class Fake:
        closed = False

        def close(self) -> None:
            self.closed = True

    async def scenario() -> None:
        inbox: Inbox[Any] = Inbox(Budget())
        inbox.put_nowait("before")
        connections = [Fake() for _ in range(800)]
        for attempt, connection in enumerate(connections):
            put_newest(inbox, Offered(attempt, connection))
        assert [connection.closed for connection in connections] == [True] * 799 + [False]
        assert inbox.get_nowait() == "before"
        assert inbox.get_nowait() == Offered(799, connections[-1])
        assert inbox.empty()

    asyncio.run(scenario())
