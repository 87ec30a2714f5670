"""The source agent as a process: one session, its signals, and whom it tells what."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import CancelledByUser, PageferryError, VerificationError
from pageferry.common.guest_location import When, Who, location_sentence
from pageferry.common.process import signals
from pageferry.common.process.aio import quit_task
from pageferry.common.process.last_resort import last_resort
from pageferry.common.process.logs import AgentLog
from pageferry.common.process.status import Status, is_orphan
from pageferry.common.report.schema import Report
from pageferry.common.termination import SignalReply
from pageferry.common.timeline import Timeline
from pageferry.common.wire.tls_credentials import ClientTls
from pageferry.source_agent.report.build import make_report
from pageferry.source_agent.session.session import SourceSession

TICK_S = 0.1


class SourceAgent:
    """Runs one migration to its end.

    Args:
        config: Every option of the migration.
        address: Host and port of the destination.
        log: Gets phases for people and all events at the end; the caller closes it.
        show: Is given a status several times a second, on the thread of `run`; on another one where
            a phase is announced while the guest is booted.
        secure: How connections use TLS; None: plain TCP.
        witness: File in which the guest's heartbeats are kept, for tests; None: no file.
        supervisor: Process id of the process that started this one, if one did. Once it has died,
            no second signal can come from it.
    """

    def __init__(
        self,
        config: MigrationConfig,
        address: tuple[str, int],
        log: AgentLog,
        show: Callable[[Status], None],
        secure: ClientTls | None = None,
        witness: Path | None = None,
        supervisor: int | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._secure = secure
        self._config = config
        self._address = address
        self._log = log
        self._show = show
        self._witness = witness
        self._cancelled = False
        self._looking: asyncio.Task[None] | None = None  # from the first signal on

    def run(self) -> tuple[Report, PageferryError | None]:
        """Run the migration, and make its report.

        Signals that come afterwards are ignored: all that is left is to report.

        Returns:
            The report, and what the migration ended with (None: all is well).
        """
        try:
            return uvloop.run(self._run())
        finally:
            signals.ignore_signals()

    async def _run(self) -> tuple[Report, PageferryError | None]:
        timeline = Timeline("source")

        def say(phase: str) -> None:
            self._log.say(phase)
            self._show(session.status())  # a short phase must not fall between two ticks

        session = SourceSession(
            self._config, self._address, timeline, say, secure=self._secure, witness=self._witness
        )
        loop = asyncio.get_running_loop()
        task = loop.create_task(session.run(), name="session")
        ticker = loop.create_task(show_progress(session, self._show), name="ticker")
        with signals.in_loop(loop, lambda _number: self._on_signal(session, task)):
            try:
                error = await await_outcome(session, task)
            finally:
                await quit_task(self._looking)
                await quit_task(ticker)
        for event in timeline.events:
            self._log.event(session.record.session, event)
        return make_report(session.record), error

    @property
    def _alone(self) -> bool:
        return is_orphan(self._supervisor)

    def _on_signal(self, session: SourceSession, task: asyncio.Task[None]) -> None:
        if not session.can_cancel:
            self._answer(session, task, session.asked_to_end(alone=self._alone))
            if self._looking is None:
                looking = self._look(session, task)
                self._looking = asyncio.create_task(looking, name="signal-escalation")
        elif not self._cancelled:
            self._cancelled = True
            self._log.say("cancelling")
            task.cancel()
        else:
            last_resort(session.location_sentence("ended at once"), session.exit_code)

    async def _look(self, session: SourceSession, task: asyncio.Task[None]) -> None:
        """Tell the user, too, of trouble that begins after a signal."""
        while True:
            await asyncio.sleep(TICK_S)
            news = session.still_asked(alone=self._alone)
            if news is not None:
                self._answer(session, task, news)

    def _answer(
        self, session: SourceSession, task: asyncio.Task[None], answer: tuple[SignalReply, str]
    ) -> None:
        reply, words = answer
        session.notice = words
        self._log.say(words)
        self._show(session.status())
        if reply is SignalReply.END:
            last_resort(session.location_sentence(words), session.exit_code)
            task.cancel(words)


async def await_outcome(session: SourceSession, task: asyncio.Task[None]) -> PageferryError | None:
    """Wait for a session to end.

    To stop waiting early, cancel `task`, not the caller.

    Args:
        session: The session that `task` runs.
        task: Runs `session.run()`.

    Returns:
        What it ended with; None: all is well. A cancelled task gives `CancelledByUser`, or
        `VerificationError` where the guest had moved already.
    """
    try:
        await task
    except PageferryError as failure:
        return failure
    except asyncio.CancelledError:
        why = session.record.error or location_sentence(
            "cancelled by the user", Who.USER, When.NOTHING
        )
        return VerificationError(why) if session.handover.finished else CancelledByUser(why)
    return None


async def show_progress(session: SourceSession, show: Callable[[Status], None]) -> None:
    """Show the state of a session several times a second, until cancelled.

    Args:
        session: The session to look at.
        show: Is given each status, with the rate since the one before; it must not block.
    """
    last_bytes, last_s = 0, time.monotonic()
    while True:
        session.attend()
        status = session.status()
        now_s = time.monotonic()
        status.rate = (status.total_bytes - last_bytes) / max(now_s - last_s, 1e-6)
        last_bytes, last_s = status.total_bytes, now_s
        show(status)
        await asyncio.sleep(TICK_S)
