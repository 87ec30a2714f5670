"""The commit, the one step that cannot be undone, and what became of it."""

from __future__ import annotations

import asyncio
import time

from pageferry.common.errors import ConnectionBroken, PageferryError
from pageferry.common.guest.vcpu import vcpus_cpu_s
from pageferry.common.process.aio import quit_task
from pageferry.common.wire import bitmap, messages
from pageferry.source_agent.postcopy.phase import PostcopyPhase
from pageferry.source_agent.postcopy.serving import Serving
from pageferry.source_agent.postcopy.supply import PageSupply
from pageferry.source_agent.precopy.rounds import StopResult
from pageferry.source_agent.protocol import NextStep
from pageferry.source_agent.report.plausibility import check_finished
from pageferry.source_agent.session.context import ReadyToSend, SourceContext


class HandOver:
    """Hands a paused guest over, with all of its pages or with pages to follow.

    Args:
        context: Of the session.

    Attributes:
        no_answer: For people: why it is not known what became of the commit; empty: nobody asked in
            vain.
    """

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self.no_answer = ""

    async def commit(self, ready: ReadyToSend, final: StopResult) -> None:
        """Hand over a guest of which nothing is missing.

        Args:
            ready: The session after its setup.
            final: The stop, with its last round.

        Raises:
            PeerRefused: The guest goes on here.
            InDoubtError: Nobody knows whether the destination runs the guest.
            ConnectionBroken: The guest has moved, and the result cannot be had.
        """
        if await self._send(ready, final, push=True) is None:
            raise ConnectionBroken("the connection was lost with the answer to the commit")

    async def switch(self, ready: ReadyToSend, final: StopResult, *, push: bool) -> bool:
        """Hand over a guest whose pages are to follow, and drain its cache here afterwards.

        Args:
            ready: The session after its setup.
            final: The stop, with the missing pages.
            push: Whether pages will come that nobody asks for.

        Returns:
            Whether the commit was answered on its own connection; if not, an outage has begun.

        Raises:
            PeerRefused: The guest goes on here.
            InDoubtError: Nobody knows whether the destination runs the guest.
        """
        answered = await self._send(ready, final, push=push) is not None
        await self._context.worker.run(ready.rounds.flush)
        return answered

    async def _send(self, ready: ReadyToSend, final: StopResult, *, push: bool) -> int | None:
        """Return when the guest resumed, ns of the peer's clock; None: a new connection told it."""
        context = self._context
        commit = await self._message(ready, final, push=push)
        # Before the first byte: nobody knows whether a broken write reached the peer.
        context.protocol.commit(commit, last_round=final.round is not None)
        context.timeline.log("commit-sent")
        context.record.precopy.final = final
        try:
            await context.connections.control.send(commit)
            context.reached("commit-sent")
            if final.round is not None:
                await context.hear(messages.RoundDone)
            resumed = await context.hear(messages.Resumed)
        except PageferryError as error:
            now_s = asyncio.get_running_loop().time()
            if context.protocol.lost(error, now_s) is NextStep.GO_ON_HERE:
                raise
            self._resumed(ready, final, await self._inquire(error))
            return None
        self._resumed(ready, final, resumed.t_ns)
        context.reached("resumed-there")
        return resumed.t_ns

    async def _message(
        self, ready: ReadyToSend, final: StopResult, *, push: bool
    ) -> messages.Commit:
        missing = final.missing
        if missing is not None and len(missing) >= bitmap.WORTH:
            missing = await self._context.worker.run(bitmap.shorten, missing)
        return messages.Commit(
            barrier=len(ready.rounds.done), snapshot=final.snapshot, missing=missing, push=push
        )

    def _resumed(self, ready: ReadyToSend, final: StopResult, resumed_ns: int | None) -> None:
        context = self._context
        context.record.times.resumed_peer_ns = resumed_ns
        context.timeline.log("resumed-there")
        context.record.guest.see(ready.guest)
        if final.round is not None:
            final.round.end_ns = time.monotonic_ns()
            ready.rounds.activity.settle(final.round.end_ns)
        if context.protocol.handover.finished:
            note_completed(context)

    async def _inquire(self, error: PageferryError) -> int | None:
        """Ask what became of a commit whose answer was lost; return when the guest resumed.

        None: it is about to. Raises where the destination does not run it. Where pages are to
        follow, the outage has begun, and this is a part of it.
        """
        context = self._context
        context.timeline.log("inquire", why=str(error))
        context.notify("the destination's answer was lost: asking again")
        answer = await self.ask_again(context.config.recover_timeout)
        if answer is None:
            context.protocol.unanswered(error, self.no_answer)
        return context.protocol.answered(answer, error)

    async def ask_again(self, timeout_s: float) -> messages.CommitOutcome | None:
        """Ask what became of the commit; also after the session.

        Args:
            timeout_s: How many seconds to ask.

        Returns:
            The answer; None where nobody answered, or the answer proves nothing: see `no_answer`.
        """
        connections = self._context.connections
        answered = await connections.ask_outcome(timeout_s)
        if answered is None:
            self.no_answer = f"{connections.where} could not be asked"
            return None
        answer, record = answered.outcome, self._context.record
        if answer.answer == "unknown" and not record.connection.had_session(
            answer, answered.sample
        ):
            # Somebody who never had the session proves nothing by not knowing it.
            self.no_answer = (
                f"it is another host, or a new boot of it, that answers at {connections.where}"
            )
            return None
        if answer.answer == "unknown" and self._context.resident is not None:
            # A guest that stays there may have been moved on before its host was restarted.
            self.no_answer = f"{connections.where} was started again and has forgotten"
            return None
        return answer


async def send_the_rest(
    context: SourceContext,
    ready: ReadyToSend,
    supply: PageSupply,
    serving: Serving,
    *,
    push: bool,
    answered: bool,
) -> None:
    """Send what is missing there, until nothing is, or (lazy copy) the guest has ended.

    Args:
        context: Of the session; gets the guest's result if that comes early.
        ready: The session after its setup.
        supply: What is missing there.
        serving: Does it over the session's connections.
        push: Whether to send pages that nobody has asked for.
        answered: Whether the commit was answered; if not, this begins with an outage.

    Raises:
        GuestLostError: The destination was not reached again in time, or has the guest no more.
        InDoubtError: It was not reached again in time, and all pages had been sent.
        PeerRefused: It has all of the guest, and its result cannot be had.
    """
    lost = None if answered else ConnectionBroken("the answer to the commit was lost")
    phase = PostcopyPhase(serving, context.protocol, context.timeline, context.notify)
    if context.injector is not None:
        watcher = asyncio.create_task(phase.watch_share(context.injector, supply.unsent()))
        context.exits.push_async_callback(quit_task, watcher)
    finished = await phase.run(push=push, broken=lost)
    note_completed(context)
    if finished is not None:
        context.record.result.finished = check_result(context, ready, finished)


def note_completed(context: SourceContext) -> None:
    """Note that the destination has all of the guest: this end is no longer needed.

    Args:
        context: Of the session.
    """
    context.record.completed(vcpus_cpu_s())
    context.timeline.log("completed")


def check_result(
    context: SourceContext, ready: ReadyToSend, finished: messages.Finished
) -> messages.Finished:
    """Check a result against what is known here.

    Args:
        context: Of the session.
        ready: Its guest is the paused copy.
        finished: The destination's result.

    Returns:
        The result, unchanged.

    Raises:
        RemoteProtocolError: It is impossible.
    """
    return check_finished(context.record, finished, ready.guest.steps())
