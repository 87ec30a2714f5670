"""A host: runs guests, receives them and sends them on; the two agents around a table of guests.

Everything happens on one event loop. What blocks on a guest does so in a thread, and the table says
whose a guest is meanwhile. Moves are tasks of the host itself, not of whoever asked for them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, TypeVar

from pageferry.common.assumed_bandwidth import check_assumed
from pageferry.common.config.addresses import parse_address
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import InDoubtError, PageferryError, UsageError, VerificationError
from pageferry.common.guest_location import NOBODY_HERE, TABLE, When, Who
from pageferry.common.handover import State
from pageferry.common.process.aio import quit_task, see_through, take_notice
from pageferry.common.process.heap import give_back
from pageferry.common.process.last_resort import last_resort
from pageferry.common.process.logs import AgentLog
from pageferry.common.process.status import Status
from pageferry.common.timeline import Timeline
from pageferry.common.wire.tls_credentials import ClientTls, checked_hostname, client_tls
from pageferry.dest_agent.admission import MemoryBudget
from pageferry.dest_agent.agent import DestAgent
from pageferry.dest_agent.listen_options import ListenOptions
from pageferry.dest_agent.session_table import Limits
from pageferry.dest_agent.stopping import worst
from pageferry.host import messages as m
from pageferry.host.guest_table import Doing, Doubt, Entry, Guests
from pageferry.host.guests_here import booted, digested, go_on, info
from pageferry.host.moves import Move
from pageferry.source_agent.agent import follow, outcome
from pageferry.source_agent.report.build import make_report
from pageferry.source_agent.resident_guest import Resident
from pageferry.source_agent.session.session import SourceSession

_THREADS: Final = 4

_LOOK_S: Final = 0.25  # how often to look for trouble, once the host has been asked to end

_PATIENCE_S: Final = 2.0  # of a person who has pressed Ctrl-C and sees nothing

_T = TypeVar("_T")


def farewell(ended: Sequence[str], fates: Sequence[tuple[int, str]] = ()) -> tuple[str, int]:
    """Make the last line of a host that was stopped, and its exit code.

    Args:
        ended: Names of guests that ended with it.
        fates: Exit code and words for each guest that was between two hosts.

    Returns:
        The line, and the worst of the codes.
    """
    codes, words = [code for code, _ in fates], [words for _, words in fates]
    if ended:
        codes.append(TABLE[Who.HERE, When.WHOLE].exit_code)
        words.insert(0, f"guests that ended with this host: {', '.join(ended)}")
    return f"stopped: {'; '.join(words) or NOBODY_HERE}", worst(codes)


class Host:
    """One process of guests; `serve` until it is cancelled or told to `stop`.

    Must be made on the running loop, whose default threads it replaces.

    Args:
        log: Gets all lines and events; the caller closes it.
        options: None is the defaults.

    Raises:
        UsageError: The TLS credentials can't be used.

    Attributes:
        guests: The table.
        ended: Names of guests that ended with this process.
    """

    def __init__(self, log: AgentLog, options: ListenOptions | None = None) -> None:
        self._log = log
        self._options = options = options or ListenOptions()
        self._bound = ("", 0)
        self._secure = client_tls(options.tls) if options.tls is not None else None
        self._budget = MemoryBudget(options.max_memory)
        self.guests = Guests(log.say, self._budget.release_guest)
        self._agent = DestAgent(
            log.say,
            log.event,
            Limits(None, options.max_memory, options.max_sessions),
            options.server(),
            budget=self._budget,
            keeper=self.guests,
            turned_away=self._meets_itself,
            stall_s=options.stall_timeout,
        )
        self._moves: dict[str, Move] = {}
        self._met_itself: set[str] = set()  # sessions of moves that have come back here
        self._work: set[asyncio.Task[Any]] = set()
        self._pool = _full_pool(_THREADS)
        asyncio.get_running_loop().set_default_executor(self._pool)
        self._stops = 0
        self._stop = asyncio.Event()
        self.ended: list[str] = []  # guests that ended with this process
        self._lost: list[tuple[int, str]] = []  # left for another host after the stop

    # -- life cycle ---------------------------------------------------------------------------

    def listen(self, address: tuple[str, int]) -> list[tuple[str, int]]:
        """Bind for guests that come.

        Args:
            address: Host and port; port 0 takes a free one.

        Returns:
            Host and port of each socket.

        Raises:
            UsageError: It can't listen there, or may not.
        """
        bound = self._options.bind(self._agent, address)
        self._bound = bound[0]
        return bound

    def stop(self) -> None:
        """End everything: moves that can still be cancelled, then guests.

        Each further call is one more signal. A move that is past cancelling is seen through as long
        as it goes well; a guest whose other host does not answer is given up. If nothing of that
        kind is left, the process ends within seconds, whatever it waits for.
        """
        self._stops += 1
        self._stop.set()
        if self._stops == 1:
            return  # `_end` begins
        self._agent.stop(self._log.say)
        self._cancel_moves()
        if self._agent.stopping.may_be_ended and all(
            move.may_be_ended for move in self._moves.values()
        ):
            here = [entry.name for entry in self.guests.entries if entry.guest is not None]
            last_resort(*farewell([*self.ended, *here], self.fates))

    @property
    def fates(self) -> list[tuple[int, str]]:
        """Exit code and words for each guest that was between two hosts at the stop."""
        return [*self._agent.stopping.fates, *self._lost]

    def _cancel_moves(self) -> None:
        for move in list(self._moves.values()):
            words = move.cancel()
            if words is not None:
                self._log.say(f"guest {move.name}: {words}")

    async def _look(self) -> None:
        """Report trouble of moves that begins after a signal; runs until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            for move in list(self._moves.values()):
                words = move.still_asked()
                if words is not None:
                    self._log.say(f"guest {move.name}: {words}")

    async def serve(self) -> None:
        """Serve until `stop`, then end the guests that are here, and say so.

        Those that have come in part come in whole first: ending them would lose pages that nobody
        else has.
        """
        agent = asyncio.create_task(self._agent.serve_forever(), name="agent")
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({agent, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if agent.done():
                agent.result()  # it never ends well by itself
        finally:
            await quit_task(stopped)
            await see_through(self._end(agent))

    async def _end(self, agent: asyncio.Task[None]) -> None:
        looking = asyncio.create_task(self._look(), name="insisting")
        self._agent.stop(self._log.say)
        self._cancel_moves()
        await self._agent.idle()
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)
        while self._work:
            _, left = await asyncio.wait(self._work, timeout=_PATIENCE_S)
            if left:
                self._log.say(
                    f"waiting for {len(left)} thing(s) under way, kernels to be compiled among them"
                    " perhaps; Ctrl-C again ends it within seconds"
                )
        await quit_task(looking)
        for entry in self.guests.entries:
            if entry.guest is not None:
                self.ended.append(entry.name)
                await self._end_guest(entry)
            self.guests.gone(entry)
        self._pool.shutdown(wait=True)

    async def _end_guest(self, entry: Entry) -> None:
        steps = sum(entry.here.steps())
        try:
            await self._blocking(entry.here.close)
        except PageferryError as error:  # the others are to be ended, too
            self._log.say(f"guest {entry.name} could not be ended: {error}")
        else:
            self._log.say(f"guest {entry.name} was ended after {steps:,} steps")

    async def _blocking(self, function: Callable[..., _T], *args: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def _own(self, work: Any) -> asyncio.Task[Any]:
        """Make a task that goes on even if whoever asked for it goes away."""
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(take_notice)
        task.add_done_callback(self._work.discard)
        return task

    @property
    def stopping(self) -> bool:
        """Whether the host has been told to stop."""
        return self._stops > 0

    def _must_go_on(self) -> None:
        if self._stops:
            raise PageferryError("this host is being stopped")

    # -- commands -----------------------------------------------------------------------------

    def list(self) -> m.Listed:
        """List every guest.

        Returns:
            The guests, oldest first, and where this host listens.
        """
        guests = [info(entry) for entry in self.guests.entries]
        host, port = self._bound
        return m.Listed(host=host, port=port, guests=guests, incoming=self._agent.sessions)

    async def boot(self, order: m.Boot) -> m.Booted:
        """Boot a guest and run it; goes on if the caller is cancelled.

        Args:
            order: The guest's configuration, and a name if it is to have a certain one.

        Returns:
            The running guest.

        Raises:
            UsageError: The guest can't be had here, or its name is taken.
            PageferryError: The host is being stopped.
        """
        self._must_go_on()
        entry = self.guests.reserve(order.name, order.config.workload, Doing.BOOTING)
        await asyncio.shield(self._own(self._boot(entry, order)))
        return m.Booted(guest=info(entry))

    async def _boot(self, entry: Entry, order: m.Boot) -> None:
        try:
            self._budget.book_guest(entry.name, order.config)
            guest = await self._blocking(booted, order, self._log.say)
        except BaseException:
            self.guests.gone(entry)
            raise
        if self._stops:  # the host was stopped meanwhile: nothing has come of it
            await self._blocking(guest.close)
            self.guests.gone(entry)
            self._must_go_on()
        self.guests.runs(entry, guest)
        self._log.say(f"guest {entry.name} runs here")

    async def digest(self, order: m.Digest) -> m.Digested:
        """Digest a guest, which stands still for as long as that takes.

        Args:
            order: Says which guest.

        Returns:
            The digest and the steps that it belongs to.

        Raises:
            UsageError: There is no such guest, or something else is being done with it.
            PageferryError: The host is being stopped.
        """
        self._must_go_on()
        entry = self.guests.claim(order.guest, Doing.CHECKING)
        return await asyncio.shield(self._own(self._digest(entry)))

    async def _digest(self, entry: Entry) -> m.Digested:
        try:
            return await self._blocking(digested, entry.name, entry.here)
        finally:
            self.guests.runs(entry)

    async def shutdown(self, order: m.Shutdown) -> m.Done:
        """End a guest for good.

        Args:
            order: Says which guest.

        Returns:
            What was done, for people.

        Raises:
            UsageError: There is no such guest, or something else is being done with it.
            PageferryError: The host is being stopped.
        """
        self._must_go_on()
        entry = self.guests.claim(order.guest, Doing.ENDING)
        return await asyncio.shield(self._own(self._shutdown(entry)))

    async def _shutdown(self, entry: Entry) -> m.Done:
        steps = sum(entry.here.steps())
        await self._blocking(entry.here.close)
        self.guests.gone(entry)
        said = f"guest {entry.name} was ended after {steps:,} steps"
        self._log.say(said)
        give_back()
        return m.Done(said=said)

    # -- a guest goes -------------------------------------------------------------------------

    def move(
        self, order: m.Move, show: Callable[[Status], None]
    ) -> tuple[Move, asyncio.Task[m.Moved]]:
        """Begin to send a guest.

        Args:
            order: Which guest, where to, and how.
            show: Takes each moment of the move.

        Returns:
            The move, to cancel it, and the host's task that gives how it ended.

        Raises:
            UsageError: It can't be begun.
            PageferryError: The host is being stopped.
        """
        self._must_go_on()
        address = parse_address(order.to, "--to")
        check_assumed(order.transfer, address[0])
        if order.transfer.strategy == "lazy-copy":
            raise UsageError(
                "--strategy lazy-copy leaves pages behind for ever, and the guest could not be"
                " moved on: expected post-copy"
            )
        secure = self._secured(order)
        entry = self.guests.claim(order.guest, Doing.MOVING)
        config = MigrationConfig(
            **entry.here.config.model_dump(),
            **order.transfer.model_dump(),
            warmup=order.warmup,
            run_after=order.run_after,
            verify=False,  # a guest that goes on can't be verified: see `digest`
        )

        def say(phase: str) -> None:
            show(session.status())
            self._log.say(f"guest {entry.name} to {order.to}: {phase}")

        timeline = Timeline("source", lambda event: self._log.event(session.record.session, event))
        resident = Resident(entry.here, entry.name)
        session = SourceSession(config, address, timeline, say, resident, secure=secure)
        task = asyncio.create_task(session.run(), name="session")
        move = Move(entry.name, order.to, session, task)
        self._moves[entry.name] = move
        return move, self._own(self._see_off(entry, move, show))

    def _secured(self, order: m.Move) -> ClientTls | None:
        if order.tls_hostname is None:
            return self._secure
        if self._secure is None:
            raise UsageError(
                "--tls-hostname says whose certificate is meant, and this host has no --tls"
            )
        return replace(self._secure, hostname=checked_hostname(order.tls_hostname))

    def _meets_itself(self, session: str) -> str | None:
        """Return why to refuse a session: this very host sends it, by whatever name or port."""
        if all(move.session.record.session != session for move in self._moves.values()):
            return None
        self._met_itself.add(session)
        return "it is this very host that sends the guest"

    async def _see_off(self, entry: Entry, move: Move, show: Callable[[Status], None]) -> m.Moved:
        session = move.session
        ticker = asyncio.create_task(follow(session, show), name="ticker")
        try:
            error = await outcome(session, move.task)
        finally:
            await quit_task(ticker)
            del self._moves[entry.name]
            self._settle(entry, move)
        if session.record.session in self._met_itself:
            self._met_itself.discard(session.record.session)
            error = UsageError(f"--to {move.peer} is this very host: guest {move.name} stays here")
        if isinstance(error, VerificationError):
            error = None  # it has moved; only the report on it was interrupted
        moved = m.Moved(
            report=await self._blocking(make_report, session.record),
            error=session.record.error if error is None else str(error),
            exit_code=0 if error is None else error.exit_code,
        )
        del session, move, error
        give_back()
        return moved

    def _settle(self, entry: Entry, move: Move) -> None:
        """Enter into the table what became of a guest whose move has ended."""
        handover, why = move.session.handover, move.session.record.error
        if handover.may_run_guest:
            self.guests.runs(entry)
            self._log.say(f"guest {entry.name} goes on here: {why}")
        elif handover.finished:
            self.guests.gone(entry)
            self._log.say(f"guest {entry.name} has moved" + (f": {why}" if why else ""))
        elif handover.state is State.LOST:
            self.guests.gone(entry)
            if self._stops:
                self._lost.append((move.session.exit_code, f"guest {entry.name}: {why}"))
            self._log.say(f"guest {entry.name}: {why}")
        else:
            entry.doubt = Doubt(move.session, move.peer)
            self._doubted(entry)

    def _doubted(self, entry: Entry) -> None:
        self.guests.turn(entry, Doing.IN_DOUBT)
        assert entry.doubt is not None  # noqa: S101
        entry.note = (
            f"paused: {entry.doubt.peer} may run it, and could not be asked. When it can be:"
            f" 'pageferry host resume --guest {entry.name}'"
        )
        self._log.say(f"guest {entry.name} is in doubt, {entry.note}")

    # -- a guest in doubt ---------------------------------------------------------------------

    async def resume(self, order: m.Resume) -> m.Done:
        """Ask again what became of a guest in doubt, and let it go on here if that is right.

        Args:
            order: Which guest, how long to ask, and whether the user knows that nobody else runs
                it.

        Returns:
            What was done, for people.

        Raises:
            InDoubtError: Nobody answers, and the user has not forced it.
            UsageError: There is no such guest, or it is not in doubt.
            PageferryError: The host is being stopped.
        """
        self._must_go_on()
        entry = self.guests.claim(order.guest, Doing.ASKING)
        return await asyncio.shield(self._own(self._resume(entry, order)))

    async def _resume(self, entry: Entry, order: m.Resume) -> m.Done:
        doubt = entry.doubt
        assert doubt is not None  # noqa: S101
        try:
            said = await self._decide(entry, doubt, order)
        except BaseException:
            self._doubted(entry)
            raise
        self._log.say(said)
        return m.Done(said=said)

    async def _decide(self, entry: Entry, doubt: Doubt, order: m.Resume) -> str:
        name, handover = entry.name, doubt.session.handover
        answer = await doubt.session.ask_again(order.timeout)
        if answer is not None:
            handover.peer(answer.answer)
        elif order.force:
            handover.step("released")
        else:
            raise InDoubtError(
                f"guest {name} stays paused: {doubt.session.no_answer}. --force lets it go on here;"
                " only if you have seen to it that nothing runs it anywhere else, or there are two"
            )
        if handover.may_run_guest:
            await self._blocking(go_on, entry.here)
            self.guests.runs(entry)
            how = "as you said that it runs nowhere else" if answer is None else answer.answer
            return f"guest {name} goes on here ({how})"
        await self._blocking(entry.here.close)
        self.guests.gone(entry)
        lacks = ", but without the pages that were to follow: it is lost there" * doubt.lacks_pages
        return f"guest {name} has moved: {doubt.peer} runs it{lacks}; its copy here was dropped"


def _full_pool(threads: int) -> ThreadPoolExecutor:
    """Make a pool with all its threads at once: more threads than at the start then mean a leak."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="host")
    barrier = threading.Barrier(threads)
    for _ in range(threads):
        pool.submit(barrier.wait)
    return pool
