"""Workers that share a machine's or a container's memory: cells that would not fit side by side.

Each cell looks at what is free when it starts, and takes it only in the seconds that follow: two
that start at once would both find room for one. So whoever gives them out keeps account.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class WorkerRoom(BaseModel):
    """Memory that a worker's cells may take. place: those who name the same one share it.

    free: bytes, before any cell of the sweep ran there; None: nothing tells.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: str
    free: int | None


class Sharing:
    """What is known of each worker."""

    def __init__(self) -> None:
        self._rooms: dict[str, WorkerRoom] = {}

    def knows(self, worker: str) -> bool:
        """Whether it has been asked."""
        return worker in self._rooms

    def learn(self, worker: str, room: WorkerRoom) -> None:
        """It has answered; whoever was there first has said what was free."""
        known = (each for each in self._rooms.values() if each.place == room.place)
        self._rooms[worker] = next(known, room)

    def fits(self, worker: str, size: int, running: Iterable[tuple[str, int]]) -> bool:
        """Whether a cell of so many bytes may begin beside those that run: (worker, bytes) each.

        A cell that would have its place for itself always may: it says itself what is missing.
        """
        room = self._rooms.get(worker)
        if room is None or room.free is None:
            return True
        beside = [its for other, its in running if self._rooms.get(other) == room]
        return not beside or size + sum(beside) <= room.free
