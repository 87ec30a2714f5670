"""Clean-up is seen through."""

import asyncio

import pytest

from common.aio import see_through


async def test_a_cancelled_caller_waits_for_the_work() -> None:
    begun, may_end, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        done.set()

    caller = asyncio.create_task(see_through(work()))
    await begun.wait()
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0)
    assert not caller.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done.is_set()


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await see_through(work())
