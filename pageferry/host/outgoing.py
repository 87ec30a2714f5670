"""Guests on their way from this host, and those of which nobody knows whether they have gone.

Moves are tasks of the host itself, not of whoever asked for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pageferry.common.assumed_bandwidth import check_assumed
from pageferry.common.config.addresses import parse_address
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import InDoubtError, UsageError, VerificationError
from pageferry.common.handover import State
from pageferry.common.process.aio import quit_task
from pageferry.common.process.heap import give_back
from pageferry.common.process.logs import AgentLog
from pageferry.common.process.status import Status
from pageferry.common.timeline import Timeline
from pageferry.common.wire.tls_credentials import ClientTls, checked_hostname
from pageferry.host import messages as m
from pageferry.host.guest_table import Doing, Doubt, Entry, Guests
from pageferry.host.guests_here import resume_guest
from pageferry.host.moves import GuestMove
from pageferry.host.work import Work
from pageferry.source_agent.agent import await_outcome, show_progress
from pageferry.source_agent.report.build import make_report
from pageferry.source_agent.resident_guest import Resident
from pageferry.source_agent.session.session import SourceSession

_LOOK_S: Final = 0.25  # how often to look for trouble, once the host has been asked to end


class Outgoing:
    """Moves from this host, and guests whose move is in doubt.

    Args:
        guests: The host's table; entries are claimed here, and turned to what became of them.
        work: The host's own.
        log: Gets all lines and events.
        secure: For connections to other hosts; None: in clear.

    Attributes:
        lost: Exit code and words for each guest that was left for another host after the stop.
    """

    def __init__(self, guests: Guests, work: Work, log: AgentLog, secure: ClientTls | None) -> None:
        self._guests = guests
        self._work = work
        self._log = log
        self._secure = secure
        self._moves: dict[str, GuestMove] = {}
        self._met_itself: set[str] = set()  # sessions of moves that have come back here
        self.lost: list[tuple[int, str]] = []

    def move(
        self, order: m.MoveGuest, show: Callable[[Status], None]
    ) -> tuple[GuestMove, asyncio.Task[m.Moved]]:
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
        self._work.must_go_on()
        address = parse_address(order.to, "--to")
        check_assumed(order.transfer, address[0])
        if order.transfer.strategy == "lazy-copy":
            raise UsageError(
                "--strategy lazy-copy leaves pages behind for ever, and the guest could not be"
                " moved on: expected post-copy"
            )
        secure = self._secured(order)
        entry = self._guests.claim(order.guest, Doing.MOVING)
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
        move = GuestMove(entry.name, order.to, session, task)
        self._moves[entry.name] = move
        return move, self._work.own(self._see_off(entry, move, show))

    def _secured(self, order: m.MoveGuest) -> ClientTls | None:
        if order.tls_hostname is None:
            return self._secure
        if self._secure is None:
            raise UsageError(
                "--tls-hostname says whose certificate is meant, and this host has no --tls"
            )
        return replace(self._secure, hostname=checked_hostname(order.tls_hostname))

    async def _see_off(
        self, entry: Entry, move: GuestMove, show: Callable[[Status], None]
    ) -> m.Moved:
        session = move.session
        ticker = asyncio.create_task(show_progress(session, show), name="ticker")
        try:
            error = await await_outcome(session, move.task)
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
            report=await self._work.blocking(make_report, session.record),
            error=session.record.error if error is None else str(error),
            exit_code=0 if error is None else error.exit_code,
        )
        del session, move, error
        give_back()
        return moved

    def _settle(self, entry: Entry, move: GuestMove) -> None:
        """Enter into the table what became of a guest whose move has ended."""
        handover, why = move.session.handover, move.session.record.error
        if handover.may_run_guest:
            self._guests.runs(entry)
            self._log.say(f"guest {entry.name} goes on here: {why}")
        elif handover.finished:
            self._guests.gone(entry)
            self._log.say(f"guest {entry.name} has moved" + (f": {why}" if why else ""))
        elif handover.state is State.LOST:
            self._guests.gone(entry)
            if self._work.stopping:
                self.lost.append((move.session.exit_code, f"guest {entry.name}: {why}"))
            self._log.say(f"guest {entry.name}: {why}")
        else:
            entry.doubt = Doubt(move.session, move.peer)
            self._doubted(entry)

    def _doubted(self, entry: Entry) -> None:
        self._guests.turn(entry, Doing.IN_DOUBT)
        assert entry.doubt is not None  # noqa: S101
        entry.note = (
            f"paused: {entry.doubt.peer} may run it, and could not be asked. When it can be:"
            f" 'pageferry host resume --guest {entry.name}'"
        )
        self._log.say(f"guest {entry.name} is in doubt, {entry.note}")

    # -- while moves are under way ------------------------------------------------------------

    def meets_itself(self, session: str) -> str | None:
        """Check whether this very host sends a session that comes in, by whatever name or port.

        Args:
            session: Its id.

        Returns:
            Why to refuse it; None: somebody else sends it.
        """
        if all(move.session.record.session != session for move in self._moves.values()):
            return None
        self._met_itself.add(session)
        return "it is this very host that sends the guest"

    def cancel(self) -> None:
        """Cancel every move that still can be; of the others, say what a person must know."""
        for move in list(self._moves.values()):
            words = move.cancel()
            if words is not None:
                self._log.say(f"guest {move.name}: {words}")

    async def watch(self) -> None:
        """Report trouble of moves that begins after a signal; runs until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            for move in list(self._moves.values()):
                words = move.still_asked()
                if words is not None:
                    self._log.say(f"guest {move.name}: {words}")

    @property
    def may_be_ended(self) -> bool:
        """Whether ending now loses nothing of any move that could still be had."""
        return all(move.may_be_ended for move in self._moves.values())

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
        self._work.must_go_on()
        entry = self._guests.claim(order.guest, Doing.ASKING)
        return await asyncio.shield(self._work.own(self._resume(entry, order)))

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
            await self._work.blocking(resume_guest, entry.here)
            self._guests.runs(entry)
            how = "as you said that it runs nowhere else" if answer is None else answer.answer
            return f"guest {name} goes on here ({how})"
        await self._work.blocking(entry.here.close)
        self._guests.gone(entry)
        lacks = ", but without the pages that were to follow: it is lost there" * doubt.lacks_pages
        return f"guest {name} has moved: {doubt.peer} runs it{lacks}; its copy here was dropped"
