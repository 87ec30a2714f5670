"""Messages that wait for their turn: few and of bounded size, or the reader does not read on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pageferry.common.wire.budget import Budget

_T = TypeVar("_T")

MOST_MESSAGES: Final = 16  # either end waits for an answer to nearly every one


@dataclass(frozen=True, slots=True)
class _Held:
    """An item with what it holds of the budget.

    Attributes:
        cost: Bytes.
        told: It is a peer's message.
    """

    item: Any
    cost: int
    told: bool


class Inbox(asyncio.Queue[_T], Generic[_T]):
    """A queue that bounds what a peer sends, and not what we put in ourselves.

    Args:
        budget: The session's; an item's bytes go back to it when the item is taken out.
    """

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget
        self._messages = 0
        self._room = asyncio.Event()

    async def take_in(self, item: _T, drawn: int) -> None:
        """Put a peer's message in; return when it has a place.

        Args:
            item: The message. At most `MOST_MESSAGES` of them are in here.
            drawn: Bytes of the budget already drawn for it; they go back if this is cancelled.
        """
        try:
            while self._messages >= MOST_MESSAGES:
                self._room.clear()
                await self._room.wait()
        except asyncio.CancelledError:
            self._budget.give(drawn)
            raise
        self._messages += 1
        self.put_nowait(_Held(item, drawn, told=True))  # type: ignore[arg-type]

    def put_if_room(self, item: _T, cost: int) -> bool:
        """Put in an item that a peer has caused, unless the budget is used up.

        Args:
            item: No message of a peer: it does not count among those.
            cost: Bytes to draw for it.

        Returns:
            False: there was no room, and it was not put in.
        """
        if not self._budget.take_now(cost):
            return False
        self.put_nowait(_Held(item, cost, told=False))  # type: ignore[arg-type]
        return True

    def take_back(self, wanted: Callable[[_T], bool]) -> list[_T]:
        """Take items out of their turn; never a peer's messages.

        Args:
            wanted: Says whether an item is of that kind.

        Returns:
            The items that were taken out, the oldest first.
        """
        waiting: Any = self._queue  # type: ignore[attr-defined]
        found = [each for each in waiting if not _is_told(each) and wanted(_inside(each))]
        for each in found:
            waiting.remove(each)
        return [self._out(each) for each in found]

    def _get(self) -> _T:
        return self._out(super()._get())

    def _out(self, entry: Any) -> _T:
        if isinstance(entry, _Held):
            self._messages -= entry.told
            self._budget.give(entry.cost)
            self._room.set()
        return _inside(entry)  # type: ignore[no-any-return]


def _is_told(entry: Any) -> bool:
    return isinstance(entry, _Held) and entry.told


def _inside(entry: Any) -> Any:
    return entry.item if isinstance(entry, _Held) else entry
