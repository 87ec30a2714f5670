"""Workers that share the memory of a machine or container: cells may not fit side by side.

Each cell looks at what is free when it starts, and takes it only in the seconds that follow: two
that start at once would both find room for one. So whoever hands out cells keeps account.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class WorkerRoom(BaseModel):
    """Memory that a worker's cells may take.

    Attributes:
        place: Whose memory it is: workers that name the same place share it.
        free: Bytes, before any cell of the sweep ran there; None where nothing tells.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: str
    free: int | None


class WorkersMemory:
    """What is known of each worker's memory."""

    def __init__(self) -> None:
        self._rooms: dict[str, WorkerRoom] = {}

    def knows(self, worker: str) -> bool:
        """Tell whether a worker has answered.

        Args:
            worker: Its address.

        Returns:
            True once `learn` was called for it.
        """
        return worker in self._rooms

    def learn(self, worker: str, room: WorkerRoom) -> None:
        """Note a worker's answer.

        Args:
            worker: Its address.
            room: Its answer. If another worker has named the same place before, that worker's
                answer counts instead.
        """
        known = (each for each in self._rooms.values() if each.place == room.place)
        self._rooms[worker] = next(known, room)

    def fits(self, worker: str, size: int, running: Iterable[tuple[str, int]]) -> bool:
        """Tell whether a cell may begin beside the running ones.

        A cell that would have its place to itself always may: it reports itself what is missing.

        Args:
            worker: The address of the worker that would get the cell.
            size: Bytes that the cell takes.
            running: Address and bytes of each cell that runs, on any worker.

        Returns:
            True if all cells of that place fit, or nothing is known of its memory.
        """
        room = self._rooms.get(worker)
        if room is None or room.free is None:
            return True
        beside = [its for other, its in running if self._rooms.get(other) == room]
        return not beside or size + sum(beside) <= room.free
