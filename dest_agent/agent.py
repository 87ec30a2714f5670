"""The destination agent: listens, and gives each migration a session of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pageferry._version import __version__
from pageferry.common.capacity.agents import dest_descriptors, dest_tasks
from pageferry.common.capacity.descriptors import check_descriptors
from pageferry.common.capacity.tasks import check_tasks
from pageferry.common.clock import clock_identity
from pageferry.common.errors import (
    EXIT_CANCELLED,
    EXIT_IN_DOUBT,
    EXIT_OK,
    PageferryError,
    PeerRefused,
    RemoteProtocolError,
)
from pageferry.common.guest_location import NOBODY_HERE, TABLE, Who
from pageferry.common.inject import Injection, Plan
from pageferry.common.process.aio import quit_task
from pageferry.common.process.heap import give_back
from pageferry.common.process.last_resort import last_resort
from pageferry.common.process.machine import processor
from pageferry.common.process.rate_limited_log import Complaints
from pageferry.common.process.status import is_orphan
from pageferry.common.timeline import Event, Timeline
from pageferry.common.wire import messages
from pageferry.common.wire.channel import Connection
from pageferry.common.wire.eviction import first_to_go, fullest
from pageferry.common.wire.injector import Injector
from pageferry.common.wire.link_policy import STALL_S
from pageferry.common.wire.listener import Listener
from pageferry.dest_agent.admission import MAX_SESSIONS, Credentials, MemoryBudget
from pageferry.dest_agent.guest_keeper import Keeper
from pageferry.dest_agent.session.session import DestSession, Terms

MAX_REMEMBERED: Final = 1000
MAX_WAITING: Final = 64  # sessions that have not said which guest will come
MOST_WAITING: Final = 2 * MAX_WAITING  # the same, with those that are on their way out
# How long an agent that was to serve one migration stays for a source that may have to ask what
# became of it.
ASK_S: Final = 30.0
LOOK_S: Final = 0.25  # how often trouble is looked for, once it has been asked to end
REFUSE_S: Final = 1.0  # to send a few bytes to somebody who may not read them


@dataclass(frozen=True, slots=True)
class Limits:
    """What a destination takes on. memory: of one guest, exactly; max_memory: of all together,

    bytes, their caches included (None: what the host has free).
    """

    memory: int | None = None
    max_memory: int | None = None
    max_sessions: int = MAX_SESSIONS


class DestAgent:
    """Sessions by their id; those that ended are remembered, for a source that asks later.

    say: one line for people. sink: each event of a session, with the session's id. secure: a
    context of TLS, or None for plain TCP. budget: who else books memory here; None: nobody.
    keeper: whom guests are left to that stay, and who gives back to the budget what they had; None:
    a source that wants that is refused. turned_away: why a session of that id is, or None.
    supervisor: the process that started this one, if one did: no second signal comes from one that
    has died.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        sink: Callable[[str, Event], None],
        limits: Limits | None = None,
        secure: ssl.SSLContext | None = None,
        *,
        budget: MemoryBudget | None = None,
        keeper: Keeper | None = None,
        turned_away: Callable[[str], str | None] = lambda _session: None,
        stall_s: float = STALL_S,
        inject: Sequence[Injection] = (),
        witness: Path | None = None,
        supervisor: int | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._say = say
        self._sink = sink
        self._clock = clock_identity()
        self._limits = limits or Limits()
        self._budget = budget or MemoryBudget(self._limits.max_memory)
        self._complain = Complaints(say)
        self._tls = secure is not None
        self._keeper = keeper
        self._turned_away = turned_away
        self._witness = witness
        self._listener = Listener(self._serve, self._complain, secure, stall_s)
        # One for all sessions: a fault is injected once.
        self._plan = Plan(inject) if inject else None
        self._sessions: dict[str, DestSession] = {}
        self._credentials: dict[str, Credentials] = {}  # of those above and of those below
        self._ended: OrderedDict[str, messages.Outcome] = OrderedDict()
        self._kept: dict[str, messages.Outcome] = {}  # never forgotten: see `_remember`
        self._first_ended: asyncio.Future[tuple[PageferryError | None, bool]] | None = None
        self._asked = asyncio.Event()
        self.stopping = False
        self._serving: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._tell = say  # what is said of a signal
        self._fates: list[tuple[int, str]] = []  # of sessions that were under way at the stop

    def listen(self, host: str, port: int, *, loopback_only: bool = False) -> list[tuple[str, int]]:
        """Bind to every address of `host`; returns them. Raises `UsageError`."""
        return self._listener.listen(host, port, loopback_only=loopback_only)

    @property
    def sessions(self) -> int:
        """How many have not ended."""
        return len(self._sessions)

    async def serve_forever(self) -> None:
        """Until cancelled, when sessions that are under way are ended; or until `stop` has seen
        them through: raises `CancelledError`, too."""
        self._serving = asyncio.current_task()
        self._looking = asyncio.create_task(self._look(), name="insisting")
        try:
            await self._listener.run()
        finally:
            await quit_task(self._looking)
            self._complain.flush()

    def stop(self, tell: Callable[[str], None]) -> None:
        """Take no more guests, and end when none lacks pages any more.

        A session before its hand-over ends at once, and its source is told. Each further call is
        one more signal: a guest whose source does not answer is given up by the second. tell: one
        line for people, on each guest that is seen through.
        """
        again, self.stopping = self.stopping, True
        for session in list(self._sessions.values()):
            _say_of(session, session.termination.signal(alone=self._alone), tell)
        self._tell = tell
        if again and self.may_be_ended and self._keeper is None:
            self._last_resort()
        self._end_if_idle()

    @property
    def may_be_ended(self) -> bool:
        """Whether no guest here would be lost by that which could be had."""
        return all(session.termination.may_be_ended for session in self._sessions.values())

    @property
    def _alone(self) -> bool:
        return is_orphan(self._supervisor)

    async def _look(self) -> None:
        """Trouble that begins after a signal is told, too."""
        while True:
            await asyncio.sleep(LOOK_S)
            for session in list(self._sessions.values()):
                _say_of(session, session.termination.look(alone=self._alone), self._tell)

    def _end_if_idle(self) -> None:
        if not self.stopping or self._sessions:
            return
        if self._first_ended is not None and not self._first_ended.done():
            self._first_ended.set_result((None, False))
        self._asked.set()
        if self._serving is not None:
            self._serving.cancel()

    async def idle(self) -> None:
        """Until an agent that was stopped has no session any more."""
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)

    @property
    def fates(self) -> list[tuple[int, str]]:
        """Exit code and words of each session that was under way at the stop: if all ends now."""
        under_way = [each for each in self._sessions.values() if not each.place.kept]
        return [*self._fates, *map(_fate, under_way)]

    @property
    def farewell(self) -> str:
        """What became of the guests that were here or on their way at the stop."""
        return f"stopped: {'; '.join(words for _, words in self.fates) or NOBODY_HERE}"

    def exit_code(self, failure: PageferryError | None = None) -> int:
        """Of an agent that was stopped; failure: what its only session had ended with before."""
        if not self._fates and failure is not None:
            return failure.exit_code
        return worst([code for code, _ in self._fates])

    def _note_fate(self, session: DestSession) -> None:
        """What a session that was under way at the stop has come to; a guest that is kept goes on
        with whoever keeps it."""
        if not session.place.kept:
            self._fates.append(_fate(session))

    def _last_resort(self) -> None:
        """A further signal: whatever hangs now, the process ends."""
        last_resort(self.farewell, worst([code for code, _ in self.fates]))

    async def serve_once(self) -> None:
        """One migration. Raises what made it fail."""
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
        credentials = self._credentials.get(hello.session)
        if hello.role == "control":
            had_guest = await self._serve_control(connection, hello)
            del connection
            if had_guest:  # it takes long, and who only said hello leaves little
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
        """A whole session; whether there was a guest in it."""
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
        self._make_room()
        self._sessions[name] = session
        self._credentials[name] = Credentials.of(hello, connection)
        error: PageferryError | None = None
        try:
            session.hit("hello")
            await self._welcome(connection)
            await session.run()
            self._say(f"session {short}: done")
        except PageferryError as failure:
            error = failure = session.told(failure)
            say = self._say if session.set_up else self._complain  # not a line for each stranger
            say(f"session {short}: ended: {failure}")
        finally:
            self._remember(session)
            if self.stopping:
                self._note_fate(session)
            if self._first_ended is not None and not self._first_ended.done():
                self._first_ended.set_result((error, session.may_be_asked and not self.stopping))
            self._end_if_idle()
        return session.set_up

    def _terms(self) -> Terms:
        return Terms(
            self._limits.memory,
            self._budget,
            self._enter,
            self._keeper,
            self._plan,
            self._witness,
        )

    def _refusal(self, name: str, network: str = "") -> str | None:
        if self.stopping:
            return "it is being stopped"
        if name in self._sessions or name in self._ended or name in self._kept:
            return "a session of that name exists already"
        if self._crowded(network):
            return "too many have said hello and not yet which guest they bring"
        return self._turned_away(name) or self._busy()

    def _busy(self) -> str | None:
        under_way = sum(session.set_up for session in self._sessions.values())
        full = under_way >= self._limits.max_sessions
        return f"busy with {under_way} migrations" if full else None

    def _make_room(self) -> None:
        """Who has said hello and then no more keeps nobody out: it takes a slot when it goes on."""
        waiting = [each for each in self._sessions.values() if not (each.set_up or each.dropped)]
        if len(waiting) >= MAX_WAITING:
            first = first_to_go(waiting, lambda each: each.network, lambda _each: False)
            assert first is not None  # noqa: S101 - there are some
            first.drop(f"{MAX_WAITING} others came before it said which guest it brings")

    def _crowded(self, network: str) -> bool:
        """Whether there is no place for one more from there. Those on their way out are hurried."""
        waiting = [each for each in self._sessions.values() if not each.set_up]
        if len(waiting) < MOST_WAITING:
            return False
        for each in waiting:
            if each.dropped:
                each.cut()
        most = fullest(each.network for each in waiting)
        return network == most or len(waiting) >= 2 * MOST_WAITING

    def _enter(self, name: str, setup: messages.Setup) -> None:
        """A session says which guest will come. Raises `PeerRefused` and `UsageError`."""
        busy = self._busy()
        if busy is not None:
            raise PeerRefused(busy)
        channels, vcpus = setup.channels, setup.guest.vcpus
        due = sum(session.descriptors_due for session in self._sessions.values())
        what = f"a guest with {vcpus} vCPU(s) over {channels} channel(s)"
        check_descriptors(what, dest_descriptors(channels, vcpus, tls=self._tls), beside=due)
        check_tasks(what, dest_tasks(channels, vcpus))
        self._budget.book(name, setup.guest)

    def _remember(self, session: DestSession) -> None:
        """A guest that was kept may run for ever, here or further on: its source must never hear
        that nobody knows of it. Only one that has said goodbye will not ask."""
        del self._sessions[session.session]
        self._budget.release(session.session)
        if session.place.kept and not session.said_bye:
            self._kept[session.session] = session.answer()
            return
        if not session.set_up:  # no commit of it can be on its way, nobody will ask
            self._credentials.pop(session.session, None)
            return
        self._ended[session.session] = session.answer()
        if len(self._ended) > MAX_REMEMBERED:
            forgotten, _ = self._ended.popitem(last=False)
            self._credentials.pop(forgotten, None)

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
        session = self._sessions.get(hello.session)
        try:
            if session is None:
                raise RemoteProtocolError("a bulk channel of no session that is known here")
            await self._welcome(connection)
            session.attach(hello, connection)
        except PageferryError as error:
            self._complain(f"{connection.peer} was turned away: {error}")
            connection.close()

    async def _serve_recover(self, connection: Connection, name: str) -> None:
        """A source that lost its connections in post-copy is back.

        The newest attempt is the one that counts: an older one is closed unread.
        """
        session = self._sessions.get(name)
        if session is None:
            self._complain(
                f"{connection.peer} is back, and no guest of session {name[:8]} runs here"
            )
            await self._answer(connection, self._outcome(name))
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
        """For a question about a session that has none any more."""
        if self._plan is None:
            return None
        return Injector(self._plan, Timeline("dest", lambda event: self._sink(name, event)))

    def _reading(self) -> dict[str, object]:
        """Which host answers, and when."""
        return {"clock": self._clock, "peer_ns": time.monotonic_ns()}

    async def _serve_query(self, connection: Connection, name: str) -> None:
        """Answer truthfully; a session that is still waiting for its commit is over then."""
        session = self._sessions.get(name)
        injector = session.injector if session is not None else self._injector(name)
        if injector is not None:
            connection.tap(injector)
            injector.hit("asked")
        outcome = self._outcome(name) if session is None else session.answer()
        line = f"session {name[:8]}: the source asks what became of it: {outcome.answer}"
        (self._complain if outcome.answer == "unknown" else self._say)(line)
        await self._answer(connection, outcome)
        self._asked.set()

    def _outcome(self, name: str) -> messages.Outcome:
        """Of a session that has ended, or of none that is known."""
        unknown = messages.Outcome(answer="unknown")
        return self._kept.get(name) or self._ended.get(name, unknown)

    async def _answer(self, connection: Connection, outcome: messages.Outcome) -> None:
        try:
            await connection.send(outcome.model_copy(update=self._reading()))
        except PageferryError:
            connection.close()
        else:
            await connection.linger()


def _say_of(session: DestSession, words: str | None, tell: Callable[[str], None]) -> None:
    if words is not None:
        tell(f"session {session.session[:8]}: {words}")


def _fate(session: DestSession) -> tuple[int, str]:
    """The exit code, and what is so, if it has ended or ends now."""
    code, words = EXIT_OK, "its guest came in whole, and its source has the result"
    if session.had_its_run and session.handover.finished:
        words = "its guest came in whole, and had its run"
    elif not (session.termination.seen_through and session.said_bye):
        there = TABLE[Who.HERE, session.when]
        code, words = there.exit_code, f"{there.words}{session.termination.lacks}"
    return code, f"session {session.session[:8]}: {words}"


def worst(codes: Sequence[int]) -> int:
    """The exit code of an agent that was stopped, of those of its sessions."""
    if EXIT_IN_DOUBT in codes:
        return EXIT_IN_DOUBT
    return EXIT_OK if codes and set(codes) == {EXIT_OK} else EXIT_CANCELLED
