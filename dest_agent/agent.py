"""The destination agent: listens, and gives each migration a session of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pageferry._version import __version__
from pageferry.common.clock import clock_identity
from pageferry.common.errors import PageferryError, RemoteProtocolError
from pageferry.common.inject import FaultPlan, Injection
from pageferry.common.process.aio import quit_task
from pageferry.common.process.heap import give_back
from pageferry.common.process.processor import processor
from pageferry.common.process.rate_limited_log import RateLimitedLog
from pageferry.common.timeline import Timeline, TimelineEvent
from pageferry.common.wire import messages
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.injector import Injector
from pageferry.common.wire.link_policy import STALL_S
from pageferry.common.wire.listener import Listener
from pageferry.dest_agent.admission import MemoryBudget
from pageferry.dest_agent.guest_registry import GuestRegistry
from pageferry.dest_agent.session.session import DestSession, Terms
from pageferry.dest_agent.session_table import SessionLimits, SessionTable
from pageferry.dest_agent.stopping import Stopping

# How long an agent that serves one migration stays on for a source that may have to ask what became
# of it.
ASK_S: Final = 30.0
REFUSE_S: Final = 1.0  # to send a few bytes to somebody who may not read them


class DestAgent:
    """Sessions by their id; those that ended are remembered, for a source that asks later.

    Args:
        say: Takes one line for people.
        sink: Takes each event of a session, with the session's id.
        limits: None is the defaults.
        secure: TLS context of the server's end; None is plain TCP.
        budget: Shared with others that book memory here; None makes one of its own.
        registry: Takes over guests that stay, and gives back to the budget what they had booked.
            With None, a source that wants its guest to stay is refused.
        turned_away: Returns why a session of this id is refused, or None to take it.
        stall_s: Seconds of silence after which a peer is taken for gone.
        inject: Faults to inject, each once over all sessions.
        witness: File that keeps the guest's heartbeats, for tests.
        supervisor: PID of the process that started this one, None if none did. Once it has died, no
            second signal can come from it.

    Attributes:
        stopping: The signals so far, and the fates of sessions.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        sink: Callable[[str, TimelineEvent], None],
        limits: SessionLimits | None = None,
        secure: ssl.SSLContext | None = None,
        *,
        budget: MemoryBudget | None = None,
        registry: GuestRegistry | None = None,
        turned_away: Callable[[str], str | None] = lambda _session: None,
        stall_s: float = STALL_S,
        inject: Sequence[Injection] = (),
        witness: Path | None = None,
        supervisor: int | None = None,
    ) -> None:
        self._say = say
        self._sink = sink
        self._clock = clock_identity()
        limits = limits or SessionLimits()
        budget = budget or MemoryBudget(limits.max_memory)
        self._table = SessionTable(limits, budget, tls=secure is not None)
        self.stopping = Stopping(self._table, say, supervisor)
        self._complain = RateLimitedLog(say)
        self._registry = registry
        self._turned_away = turned_away
        self._witness = witness
        self._listener = Listener(self._serve, self._complain, secure, stall_s)
        # One plan for all sessions: each fault is injected once.
        self._plan = FaultPlan(inject) if inject else None
        self._first_ended: asyncio.Future[tuple[PageferryError | None, bool]] | None = None
        self._asked = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    def listen(self, host: str, port: int, *, loopback_only: bool = False) -> list[tuple[str, int]]:
        """Bind to every address of a host.

        Args:
            host: Name or address.
            port: 0 takes a free one, the same for all addresses.
            loopback_only: Whether to refuse addresses that other hosts can reach.

        Returns:
            Host and port of each socket.

        Raises:
            UsageError: It can't listen there, or may not.
        """
        return self._listener.listen(host, port, loopback_only=loopback_only)

    @property
    def sessions(self) -> int:
        """How many sessions have not ended."""
        return len(self._table)

    async def serve_forever(self) -> None:
        """Serve until cancelled, or until `stop` has seen every session through.

        Cancelling ends the sessions that are under way. Either way this raises `CancelledError`.
        """
        self._serving = asyncio.current_task()
        self._looking = asyncio.create_task(self.stopping.look(), name="signal-escalation")
        try:
            await self._listener.run()
        finally:
            await quit_task(self._looking)
            self._complain.flush()

    def stop(self, tell: Callable[[str], None]) -> None:
        """Take no more guests, and end once none misses pages any more.

        A session before its hand-over ends at once, and its source is told. Each further call is
        one more signal: the second gives up a guest whose source does not answer.

        Args:
            tell: Takes one line for people, on each guest that is seen through.
        """
        again = self.stopping.signal(tell)
        if again and self.stopping.may_be_ended and self._registry is None:
            self.stopping.last_resort()
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self.stopping.begun or len(self._table):
            return
        if self._first_ended is not None and not self._first_ended.done():
            self._first_ended.set_result((None, False))
        self._asked.set()
        if self._serving is not None:
            self._serving.cancel()

    async def idle(self) -> None:
        """Wait until an agent that was stopped has no session any more."""
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)

    async def serve_once(self) -> None:
        """Serve one migration.

        If it fails in a way that may make its source come back and ask, that is waited for.

        Raises:
            PageferryError: What made the migration fail.
        """
        self._first_ended = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(self.serve_forever(), name="listener")
        try:
            error, may_be_asked = await self._first_ended
            if may_be_asked and not self._asked.is_set():
                async with asyncio.timeout(ASK_S):
                    await self._asked.wait()
        except TimeoutError:
            pass
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        if error is not None:
            raise error

    async def _serve(self, connection: Connection, hello: messages.Hello) -> None:
        credentials = self._table.credentials(hello.session)
        if hello.role == "control":
            had_guest = await self._serve_control(connection, hello)
            del connection
            if had_guest:  # it takes long, and a mere hello leaves little behind
                give_back()
        elif credentials is not None and not credentials.admit(hello, connection):
            await self._turn_away(
                connection, f"a {hello.role} connection that is not of session {hello.session[:8]}"
            )
        elif hello.role in ("bulk", "urgent"):
            await self._serve_bulk(connection, hello)
        elif hello.role == "recover":
            await self._serve_recover(connection, hello.session)
        else:
            await self._serve_query(connection, hello.session)

    async def _turn_away(self, connection: Connection, reason: str) -> None:
        self._complain(f"{connection.peer} was refused: {reason}")
        with contextlib.suppress(PageferryError, TimeoutError):
            async with asyncio.timeout(REFUSE_S):
                await connection.send(messages.Refuse(reason=reason))
        await connection.linger()

    async def _serve_control(self, connection: Connection, hello: messages.Hello) -> bool:
        """Run a whole session; return whether there was a guest in it."""
        name = hello.session
        refusal = self._refusal(name, connection.network)
        if refusal is not None:
            await self._turn_away(connection, refusal)
            return False
        short = name[:8]
        self._complain(f"session {short}: a migration from {connection.peer}")
        timeline = Timeline("dest", lambda event: self._sink(name, event))
        session = DestSession(
            name,
            connection,
            timeline,
            lambda line: self._say(f"session {short}: {line}"),
            self._terms(),
        )
        self._table.add(session, hello, connection)
        error: PageferryError | None = None
        try:
            session.reached("hello")
            await self._welcome(connection)
            await session.run()
            self._say(f"session {short}: done")
        except PageferryError as failure:
            error = failure = session.location_error(failure)
            say = self._say if session.set_up else self._complain  # not a line for each stranger
            say(f"session {short}: ended: {failure}")
        finally:
            self._table.remember(session)
            self.stopping.note(session)
            if self._first_ended is not None and not self._first_ended.done():
                self._first_ended.set_result(
                    (error, session.may_be_asked and not self.stopping.begun)
                )
            self._end_if_idle()
        return session.set_up

    def _terms(self) -> Terms:
        return Terms(
            self._table.limits.memory,
            self._table.budget,
            self._table.enter,
            self._registry,
            self._plan,
            self._witness,
        )

    def _refusal(self, name: str, network: str = "") -> str | None:
        if self.stopping.begun:
            return "it is being stopped"
        if self._table.knows(name):
            return "a session of that name exists already"
        if self._table.crowded(network):
            return "too many have said hello and not yet which guest they bring"
        return self._turned_away(name) or self._table.busy()

    async def _welcome(self, connection: Connection) -> None:
        await connection.send(
            messages.Welcome(
                version=__version__,
                host=socket.gethostname(),
                clock=self._clock,
                processor=processor() or "",
                attempt=connection.attempt,
            )
        )

    async def _serve_bulk(self, connection: Connection, hello: messages.Hello) -> None:
        session = self._table.get(hello.session)
        try:
            if session is None:
                raise RemoteProtocolError("a bulk channel of no session that is known here")
            await self._welcome(connection)
            session.attach(hello, connection)
        except PageferryError as error:
            self._complain(f"{connection.peer} was turned away: {error}")
            connection.close()

    async def _serve_recover(self, connection: Connection, name: str) -> None:
        """Pass on a source that is back after it lost its connections in post-copy.

        The newest attempt counts: an older one is closed unread.
        """
        session = self._table.get(name)
        if session is None:
            self._complain(
                f"{connection.peer} is back, and no guest of session {name[:8]} runs here"
            )
            await self._answer(connection, self._table.outcome(name))
            return
        if not session.awaits(connection.attempt):
            connection.close()
            return
        try:
            await self._welcome(connection)
        except PageferryError:
            connection.close()
        else:
            session.offer(connection)

    def _injector(self, name: str) -> Injector | None:
        """Return what injects faults while a session that is gone is asked about."""
        if self._plan is None:
            return None
        return Injector(self._plan, Timeline("dest", lambda event: self._sink(name, event)))

    def _reading(self) -> dict[str, object]:
        """Return which host answers, and what its clock reads now."""
        return {"clock": self._clock, "peer_ns": time.monotonic_ns()}

    async def _serve_query(self, connection: Connection, name: str) -> None:
        """Answer truthfully; a session that is still waiting for its commit ends by being asked."""
        session = self._table.get(name)
        injector = session.injector if session is not None else self._injector(name)
        if injector is not None:
            connection.tap(injector)
            injector.reached("asked")
        outcome = self._table.outcome(name) if session is None else session.answer()
        line = f"session {name[:8]}: the source asks what became of it: {outcome.answer}"
        (self._complain if outcome.answer == "unknown" else self._say)(line)
        await self._answer(connection, outcome)
        self._asked.set()

    async def _answer(self, connection: Connection, outcome: messages.CommitOutcome) -> None:
        try:
            await connection.send(outcome.model_copy(update=self._reading()))
        except PageferryError:
            connection.close()
        else:
            await connection.linger()
