"""A flood of strangers is a few lines, and none of them is forgotten."""

import asyncio

import pytest

from pageferry.common.process import rate_limited_log
from pageferry.common.process.rate_limited_log import MOST_LINES, RateLimitedLog


async def test_the_first_are_said_and_the_rest_counted() -> None:
    said: list[str] = []
    complain = RateLimitedLog(said.append)
    for i in range(1000):
        complain(f"stranger {i}")
    assert said == [f"stranger {i}" for i in range(MOST_LINES)]
    complain.flush()
    assert said[MOST_LINES:] == ["and 980 more like it, the last of them: stranger 999"]
    assert complain.count == 1000
    complain.flush()
    assert len(said) == MOST_LINES + 1


async def test_windows_follow_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limited_log, "WINDOW_S", 0.01)
    told = asyncio.Event()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "more like it" in line:
            told.set()

    complain = RateLimitedLog(say)
    for window in range(2):
        told.clear()
        for i in range(MOST_LINES + 1):
            complain(f"{window} {i}")
        await told.wait()
    assert len(said) == 2 * (MOST_LINES + 1)
    assert said[-1] == f"and 1 more like it, the last of them: 1 {MOST_LINES}"
