"""The sessions of a destination agent by id: which may come in, and what is remembered of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pageferry.common.capacity.agents import dest_descriptors, dest_tasks
from pageferry.common.capacity.descriptors import check_descriptors
from pageferry.common.capacity.tasks import check_tasks
from pageferry.common.errors import PeerRefused
from pageferry.common.wire import messages
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.eviction import first_to_go, fullest
from pageferry.dest_agent.admission import MAX_SESSIONS, Credentials, MemoryBudget
from pageferry.dest_agent.session.session import DestSession

MAX_REMEMBERED: Final = 1000
MAX_WAITING: Final = 64  # sessions that have not said which guest will come
MOST_WAITING: Final = 2 * MAX_WAITING  # the same, including those on their way out


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What a destination takes on.

    Attributes:
        memory: Exact size in bytes of every guest; None takes any.
        max_memory: Bytes of all guests together, caches included; None is what the host has free.
        max_sessions: Migrations at a time.
    """

    memory: int | None = None
    max_memory: int | None = None
    max_sessions: int = MAX_SESSIONS


class SessionTable:
    """Sessions that are under way, and what became of those that have ended.

    Args:
        limits: Fixed for the agent's life.
        budget: The memory that guests may have together.
        tls: Whether connections are secured, which takes more descriptors.
    """

    def __init__(self, limits: SessionLimits, budget: MemoryBudget, *, tls: bool) -> None:
        self.limits: Final = limits
        self.budget: Final = budget
        self._tls = tls
        self._sessions: dict[str, DestSession] = {}
        self._credentials: dict[str, Credentials] = {}  # of sessions above and below
        self._ended: OrderedDict[str, messages.CommitOutcome] = OrderedDict()
        self._kept: dict[str, messages.CommitOutcome] = {}  # never forgotten: see `remember`

    def __len__(self) -> int:
        """Return how many sessions have not ended."""
        return len(self._sessions)

    def __iter__(self) -> Iterator[DestSession]:
        """Iterate over a copy of the sessions that have not ended."""
        return iter(list(self._sessions.values()))

    def get(self, name: str) -> DestSession | None:
        """Return a session that has not ended.

        Args:
            name: Its id.

        Returns:
            None if there is none, or if it has ended.
        """
        return self._sessions.get(name)

    def credentials(self, name: str) -> Credentials | None:
        """Return what a connection of a session has to show.

        Args:
            name: The session's id, as the hello has it.

        Returns:
            None if the session is not known here, or nobody can ask about it any more.
        """
        return self._credentials.get(name)

    def knows(self, name: str) -> bool:
        """Return whether there is, or was, a session of that id.

        Args:
            name: The id, as the hello has it.

        Returns:
            False also for one that has ended and was forgotten.
        """
        return name in self._sessions or name in self._ended or name in self._kept

    def outcome(self, name: str) -> messages.CommitOutcome:
        """Return what became of a session that has ended.

        Args:
            name: Its id.

        Returns:
            The answer `unknown` if it was never here, or was forgotten.
        """
        unknown = messages.CommitOutcome(answer="unknown")
        return self._kept.get(name) or self._ended.get(name, unknown)

    # -- coming in ------------------------------------------------------------------------------

    def add(self, session: DestSession, hello: messages.Hello, connection: Connection) -> None:
        """Take in a new session; one that said hello and then nothing more may have to make room.

        Args:
            session: Its id is not in the table.
            hello: Whose token all its other connections must show.
            connection: Its control connection.
        """
        self._make_room()
        self._sessions[session.session] = session
        self._credentials[session.session] = Credentials.of(hello, connection)

    def _make_room(self) -> None:
        waiting = [each for each in self if not (each.set_up or each.dropped)]
        if len(waiting) >= MAX_WAITING:
            first = first_to_go(waiting, lambda each: each.network, lambda _each: False)
            assert first is not None  # noqa: S101 - there are some
            first.drop(f"{MAX_WAITING} others came before it said which guest it brings")

    def crowded(self, network: str) -> bool:
        """Return whether there is no place for one more session; cut off those on their way out.

        Only sessions that have not said which guest they bring count.

        Args:
            network: Where the new one comes from: see `Connection.network`.

        Returns:
            True for the network with the most such sessions, and for all once there are far too
            many.
        """
        waiting = [each for each in self if not each.set_up]
        if len(waiting) < MOST_WAITING:
            return False
        for each in waiting:
            if each.dropped:
                each.cut()
        most = fullest(each.network for each in waiting)
        return network == most or len(waiting) >= 2 * MOST_WAITING

    def busy(self) -> str | None:
        """Return why no further guest is taken.

        Returns:
            None if one is taken.
        """
        under_way = sum(session.set_up for session in self)
        full = under_way >= self.limits.max_sessions
        return f"busy with {under_way} migrations" if full else None

    def enter(self, name: str, setup: messages.Setup) -> None:
        """Let in a session that has said which guest will come, and book the guest's memory.

        Args:
            name: The session's id.
            setup: Says what the guest takes: memory, cache, descriptors and threads.

        Raises:
            PeerRefused: Too many others are under way.
            UsageError: The guest does not fit.
        """
        busy = self.busy()
        if busy is not None:
            raise PeerRefused(busy)
        channels, vcpus = setup.channels, setup.guest.vcpus
        due = sum(session.descriptors_due for session in self)
        what = f"a guest with {vcpus} vCPU(s) over {channels} channel(s)"
        check_descriptors(what, dest_descriptors(channels, vcpus, tls=self._tls), beside=due)
        check_tasks(what, dest_tasks(channels, vcpus))
        self.budget.book(name, setup.guest)

    # -- having ended ---------------------------------------------------------------------------

    def remember(self, session: DestSession) -> None:
        """Keep what became of a session that has ended, for a source that asks later.

        A guest that was kept may run for ever, here or further on: its source must never hear that
        nobody knows of it. Only a source that has said goodbye will not ask.

        Args:
            session: It has ended and is taken out of the table.
        """
        name = session.session
        del self._sessions[name]
        self.budget.release(name)
        if session.reservation.kept and not session.said_bye:
            self._kept[name] = session.answer()
            return
        if not session.set_up:  # no commit can be on its way, so nobody will ask
            self._credentials.pop(name, None)
            return
        self._ended[name] = session.answer()
        if len(self._ended) > MAX_REMEMBERED:
            forgotten, _ = self._ended.popitem(last=False)
            self._credentials.pop(forgotten, None)
