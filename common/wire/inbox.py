"""Messages that wait for their turn: few, and of a bounded size, or the reader does not read on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

_T = TypeVar("_T")

MOST_MESSAGES: Final = 16  # either end waits for an answer to nearly each
LEAST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Message:
    item: Any
    cost: int


class Inbox(asyncio.Queue[_T], Generic[_T]):
    """A queue in which what a peer sends has a budget, and what we put in ourselves has none.

    A message larger than the whole budget comes in alone. most: bytes in memory; it may be changed.
    """

    def __init__(self, most: int = LEAST_BYTES) -> None:
        super().__init__()
        self.most = most
        self._messages = self._cost = 0
        self._room = asyncio.Event()

    async def take_in(self, item: _T, cost: int) -> None:
        """A peer's message, of so many bytes; returns when there is room for it."""
        while self._messages and (self._messages >= MOST_MESSAGES or self._cost + cost > self.most):
            self._room.clear()
            await self._room.wait()
        self._messages += 1
        self._cost += cost
        self.put_nowait(_Message(item, cost))  # type: ignore[arg-type]

    def take_back(self, wanted: Callable[[_T], bool]) -> list[_T]:
        """What waits and is of that kind, out of its turn; of our own items."""
        waiting: Any = self._queue  # type: ignore[attr-defined]
        found = [item for item in waiting if not isinstance(item, _Message) and wanted(item)]
        for item in found:
            waiting.remove(item)
        return found

    def _get(self) -> _T:
        item: Any = super()._get()
        if not isinstance(item, _Message):
            return item  # type: ignore[no-any-return]
        self._messages -= 1
        self._cost -= item.cost
        self._room.set()
        return item.item  # type: ignore[no-any-return]
