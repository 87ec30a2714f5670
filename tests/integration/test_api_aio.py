"""`pageferry.aio`: the same as coroutines, and what a cancellation leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import pageferry
from pageferry import Status, aio
from tests.support.left_behind import nothing_left, nothing_left_or_printed
from tests.support.small_runs import SLOW, SMALL


@pytest.fixture(autouse=True)
def _nothing_is_left_and_nothing_printed(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    with nothing_left_or_printed(capfd):
        yield


async def test_the_loop_goes_on_meanwhile() -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    other = asyncio.create_task(turn())
    report = await aio.migrate(**SMALL)
    other.cancel()
    assert report.verified
    assert turns > 10


async def test_a_cancelled_task_cancels_the_migration() -> None:
    begun = asyncio.Event()

    def on_status(status: Status) -> None:
        if status.phase.startswith("round 1"):
            begun.set()

    task = asyncio.create_task(aio.migrate(**SLOW, on_status=on_status))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    assert task.cancelled()
    report = vars(raised.value)["report"]
    assert report.outcome == "cancelled"


async def test_a_timeout_ends_it() -> None:
    with nothing_left(), pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            await aio.migrate(**SLOW)


async def test_what_the_callback_raises_comes_out() -> None:
    def on_status(status: Status) -> None:
        if status.phase.startswith("round 1"):
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        await aio.migrate(**SLOW, on_status=on_status)


async def test_what_fails_is_raised() -> None:
    with pytest.raises(pageferry.UsageError, match="--memory"):
        await aio.migrate(memory="3 potatoes")
    with pytest.raises(pageferry.MigrationError) as raised:
        await aio.migrate(**SMALL, inject=["source/after-round-1:cut"])
    assert raised.value.exit_code == 1
