"""One budget for all that a session's peer makes its other end hold; nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pageferry.common.errors import ConnectionBroken, RemoteProtocolError
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import bounds, encoder, frames, header, messages
from pageferry.common.wire.budget import LARGE_BYTES, SMALL_BYTES, Budget, BudgetShare
from pageferry.common.wire.bulk_receiver import BulkReceiver
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.extents import from_pages
from pageferry.common.wire.inbox import Inbox
from pageferry.common.wire.messages import Message
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.dest_agent.postcopy.fetching import Offered
from pageferry.dest_agent.session.inbox import put_newest
from tests.unit.common.wire.test_decoder import Memory

WAIT_S = 20.0


def test_what_does_not_fit_waits_its_turn() -> None:
    async def scenario() -> None:
        budget = Budget(100)
        await budget.take(60)
        large = asyncio.create_task(budget.take(50))
        small = asyncio.create_task(budget.take(10))
        await asyncio.sleep(0)
        assert {large.done(), small.done()} == {False}  # the small one does not overtake
        assert not budget.take_now(10)
        budget.give(60)
        await asyncio.gather(large, small)
        assert budget.held == 60

    asyncio.run(scenario())


def test_what_is_larger_than_all_passes_alone() -> None:
    async def scenario() -> None:
        budget = Budget(100)
        await budget.take(1)
        large = asyncio.create_task(budget.take(1000))
        await asyncio.sleep(0)
        assert not large.done()
        budget.give(1)
        await large
        await budget.take(500, own=1000)  # it is still alone
        assert budget.held == 1500

    asyncio.run(scenario())


def test_who_holds_something_goes_before_who_waits() -> None:
    """In turn, they would wait for each other."""

    async def scenario() -> None:
        budget = Budget(100)
        await budget.take(60)
        other = asyncio.create_task(budget.take(50))
        await asyncio.sleep(0)
        await budget.take(60, own=60)
        budget.give(120)
        await other
        assert budget.held == 50

    asyncio.run(scenario())


def test_who_is_cancelled_leaves_nothing() -> None:
    async def scenario() -> None:
        budget = Budget(100)
        await budget.take(100)
        waiting = [asyncio.create_task(budget.take(30)) for _ in range(3)]
        await asyncio.sleep(0)
        budget.give(30)  # the first has got it, and has not been told
        for task in waiting[:2]:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert budget.held == 100
        budget.give(100)
        assert budget.held == 0

    asyncio.run(scenario())


def test_threads_and_a_loop_that_all_want_too_much_come_to_an_end() -> None:
    """Each by one frame after another, and one that grows while it holds; seeded sizes."""
    budget = Budget(40 * SMALL_BYTES, kept=0)
    most = 0

    def work(seed: int) -> None:
        nonlocal most
        dice, share = random.Random(seed), BudgetShare(budget)  # noqa: S311
        for _ in range(200):
            share.take(dice.randrange(SMALL_BYTES, 60 * SMALL_BYTES))
            most = max(most, budget.held)
            share.take(1000 * SMALL_BYTES)  # the frame has asked for all of it
            share.give_back()
        share.end()

    async def grow() -> None:
        dice = random.Random(9)  # noqa: S311
        for _ in range(200):
            held = 0
            for _ in range(4):
                n = dice.randrange(30 * SMALL_BYTES)
                await budget.take(n, held)
                held += n
            budget.give(held)

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(6)]
    for thread in threads:
        thread.start()
    asyncio.run(asyncio.wait_for(grow(), WAIT_S))
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert budget.held == 0
    assert most <= 120 * SMALL_BYTES  # what has grown alone: nothing else came beside it


def test_a_thread_that_waits_can_be_ended() -> None:
    budget = Budget(SMALL_BYTES, kept=0)
    holder, share = BudgetShare(budget), BudgetShare(budget)
    holder.take(2 * SMALL_BYTES)
    ended = threading.Event()

    def work() -> None:
        with pytest.raises(ConnectionBroken):
            share.take(2 * SMALL_BYTES)
        ended.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    share.close()
    assert ended.wait(WAIT_S)
    thread.join()
    holder.give_back()
    assert budget.held == 0


def test_a_few_channels_keep_large_buffers_and_the_others_small_ones() -> None:
    budget = Budget()
    shares = [BudgetShare(budget) for _ in range(64)]
    assert sorted({share.keeps for share in shares}) == [SMALL_BYTES, LARGE_BYTES]
    assert sum(share.keeps for share in shares) == 4 * LARGE_BYTES + 60 * SMALL_BYTES
    shares[63].take(LARGE_BYTES)
    assert budget.held == LARGE_BYTES
    for share in shares:
        share.end()
        share.end()
    assert budget.held == 0
    assert BudgetShare(budget).keeps == LARGE_BYTES


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


async def _until(so: Callable[[], bool]) -> None:
    while not so():  # noqa: ASYNC110 - of what only the loop's other tasks change
        await asyncio.sleep(0)


def _big_commit(size: int) -> bytes:
    snapshot = {"version": 1, "workload": "idle", "vcpus": [b"\0" * 8]}
    return messages.encode_message(
        messages.Commit(barrier=1, snapshot=snapshot, missing=b"x" * size)
    )


def test_a_message_draws_before_it_is_read_and_until_its_turn(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async def scenario() -> None:
        here, there = pair
        there.setblocking(False)
        budget = Budget(300_000)
        connection = Connection(there, "peer")
        connection.charge(budget)
        inbox: Inbox[Message] = Inbox(budget)
        body = _big_commit(200_000)
        data = encoder.encode_control(body)
        sending = asyncio.create_task(asyncio.to_thread(here.sendall, 3 * data))

        async def read() -> None:
            while True:
                await inbox.take_in(await connection.receive(), connection.take_over())

        reading = asyncio.create_task(read())
        await _until(lambda: budget.held >= bounds.check_bounds(body))
        for _ in range(3):
            for _ in range(1000):
                await asyncio.sleep(0)
                assert inbox.qsize() <= 1
                assert budget.held <= 300_000
            assert isinstance(await inbox.get(), messages.Commit)
        await sending
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        connection.close()
        assert budget.held == 0

    asyncio.run(asyncio.wait_for(scenario(), WAIT_S))


def test_a_message_that_has_come_in_part_gives_back_what_it_held(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async def scenario() -> None:
        here, there = pair
        there.setblocking(False)
        here.setblocking(False)
        budget = Budget()
        connection = Connection(there, "peer")
        connection.charge(budget)
        data = encoder.encode_control(_big_commit(2**20))
        reading = asyncio.create_task(connection.receive())
        await asyncio.get_running_loop().sock_sendall(here, data[: 600 * 1024])
        await _until(lambda: budget.held >= 1024 * 1024)  # the next part is as long as all before
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        connection.close()
        assert budget.held == 0

    asyncio.run(asyncio.wait_for(scenario(), WAIT_S))


def test_no_control_message_is_kept_on_a_bulk_connection(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    here, there = pair
    receiver = BulkReceiver(there, Memory(), 16, share=BudgetShare(Budget()))
    here.sendall(encoder.encode_control(_big_commit(2**20))[: header.HEADER.size])
    with pytest.raises(RemoteProtocolError, match="control message on a bulk"):
        receiver.run(lambda _frame: None)


def test_a_frame_holds_nothing_where_its_channel_waits_for_others(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    from pageferry.common.wire.encoder import encode_packed_head
    from pageferry.common.wire.packing import Codec, packer

    here, there = pair
    n = 2 * SMALL_BYTES // PAGE_SIZE
    budget = Budget(kept=0)
    placed = np.zeros(n * PAGE_SIZE, np.uint8)

    class Placer:
        def buffers(self, _extents: object) -> list[memoryview]:
            held.append(budget.held)
            return [placed.data]

    held: list[int] = []
    packed = packer(Codec.LZ4)(memoryview(bytes([7]) * n * PAGE_SIZE))
    receiver = BulkReceiver(
        there, Placer(), n, stream=StreamFormat(codec=Codec.LZ4), share=BudgetShare(budget)
    )
    extents = from_pages(np.arange(n))
    head = encode_packed_head(
        Codec.LZ4, frames.FrameType.PAGES, extents, len(packed), checked=False
    )
    here.sendall(head + packed + encoder.encode_barrier(1))
    here.shutdown(socket.SHUT_WR)
    receiver.run(lambda _frame: held.append(budget.held))
    assert held == [len(packed) + 2 * n * PAGE_SIZE, len(packed) + 2 * n * PAGE_SIZE, 0]
    assert (placed == 7).all()


def test_a_source_that_is_back_is_refused_where_there_is_no_room() -> None:
    class Fake:
        closed = False

        def close(self) -> None:
            self.closed = True

    async def scenario() -> None:
        budget = Budget(1 << 20)
        inbox: Inbox[object] = Inbox(budget)
        await budget.take(1 << 20)
        connection = Fake()
        put_newest(inbox, Offered(1, connection))
        assert connection.closed
        assert inbox.empty()
        budget.give(1 << 20)
        put_newest(inbox, Offered(2, Fake()))
        assert budget.held > 0
        assert isinstance(await inbox.get(), Offered)
        assert budget.held == 0

    asyncio.run(scenario())


def test_a_small_message_waits_for_no_frame_of_pages(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Or a peer that is alive would seem to be silent."""

    async def scenario() -> None:
        here, there = pair
        there.setblocking(False)
        budget = Budget(SMALL_BYTES)
        await budget.take(SMALL_BYTES)
        connection = Connection(there, "peer")
        connection.charge(budget)
        here.sendall(encoder.encode_control(messages.encode_message(messages.Ping(t_ns=1))))
        assert await connection.receive() == messages.Ping(t_ns=1)

    asyncio.run(asyncio.wait_for(scenario(), WAIT_S))
