"""The last word of a source, where another of its connections is seen to end first."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest

from pageferry.common.errors import ConnectionBroken
from pageferry.common.wire import messages
from pageferry.common.wire.connection import Connection
from pageferry.dest_agent.protocol import DestProtocol
from pageferry.dest_agent.session.inbox import DestControl

WORDS = [messages.Bye(), messages.Cancel(reason="no more")]
ENDED = ConnectionBroken("a bulk connection has ended")


@pytest.fixture
async def ends() -> AsyncIterator[tuple[DestControl, Connection]]:
    """The destination's control connection, which is being read, and the source's end of it."""
    here, there = socket.socketpair()
    for sock in (here, there):
        sock.setblocking(False)
    source = Connection(there, "destination")
    control = DestControl(Connection(here, "source"), DestProtocol(30.0), None)
    control.listen()
    yield control, source
    source.close()
    await control.drop()


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.kind)
@pytest.mark.parametrize("ended", [False, True], ids=["is read", "has ended too"])
async def test_it_counts_though_it_comes_later(
    ends: tuple[DestControl, Connection], word: messages.Message, ended: bool
) -> None:
    control, source = ends
    control.fail(ENDED)
    await source.send(word)
    source.close()
    if ended:
        assert control._reader is not None
        await control._reader
    assert await control.next() == word


async def test_what_ended_first_is_the_reason_where_no_word_comes(
    ends: tuple[DestControl, Connection],
) -> None:
    control, source = ends
    control.fail(ENDED)
    source.close()
    with pytest.raises(ConnectionBroken, match="a bulk connection"):
        await control.next()
