"""From the source's setup to a guest whose memory is there: pages may come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pageferry.common.errors import PeerSilent, RemoteProtocolError, UsageError
from pageferry.common.guest.compiling import compile_kernels
from pageferry.common.guest.machine import Guest
from pageferry.common.process.aio import run_to_completion
from pageferry.common.recovery import Recovery
from pageferry.common.units import format_size
from pageferry.common.wire import bitmap, messages
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.dest_agent.postcopy.monitor import Postcopy
from pageferry.dest_agent.precopy.page_placer import GuestPlacer
from pageferry.dest_agent.protocol import PrepareGuest
from pageferry.dest_agent.session.context import CpuTime, DestContext, Prepared
from pageferry.dest_agent.session.inbox import BarrierReached
from pageferry.dest_agent.session.stream import PageStream, most_control

SETUP_S: Final = 600.0  # from Hello to Setup: the source boots its guest in between


async def await_setup(context: DestContext) -> messages.Setup:
    """Wait for the source's setup.

    Args:
        context: Its control connection is being read; nothing but the hello has come.

    Returns:
        The setup; nothing in it has been admitted yet.

    Raises:
        PeerSilent: None came within `SETUP_S`.
        RemoteProtocolError: Something else came first.
        PageferryError: What broke the connection.
    """
    try:
        async with asyncio.timeout(SETUP_S):
            item = await context.control.next()
    except TimeoutError:
        raise PeerSilent(f"no setup came within {SETUP_S:.0f} s") from None
    if isinstance(item, BarrierReached):
        raise RemoteProtocolError("something else came before the setup")
    happened = context.protocol.receive(item)
    assert isinstance(happened, PrepareGuest)  # noqa: S101 - nothing else may come first
    context.reached("setup-received")
    return happened.setup


async def prepare(context: DestContext, setup: messages.Setup, witness: Path | None) -> Prepared:
    """Make the guest of an admitted setup, and everything that receives its pages.

    Args:
        context: The session's; its protocol gets the recovery limit of a setup with post-copy.
        setup: Its guest's memory is booked.
        witness: File that keeps the guest's heartbeats, for tests.

    Returns:
        The guest, started and paused, and its connections, none of which has come yet.

    Raises:
        UsageError: The guest can't be had here.
    """
    context.control.connection.use_congestion(setup.congestion)
    context.control.connection.limit(most_control(setup.guest.pages))
    context.say(f"preparing for a guest of {format_size(setup.guest.memory)}")
    run = context.thread.run
    guest = await run(_make_guest, setup, context.say, witness)
    try:
        guest.watch(context.control.tell)
        await run(guest.start)  # paused: all that is left for later is to wake the threads
        placer = GuestPlacer(guest.memory, deltas=setup.delta != "none")
        if setup.expected is not None:
            await run(placer.expect, bitmap.expand_summary(setup.expected, guest.n_pages))
        postcopy, stream_format = None, StreamFormat.from_setup(setup)
        if setup.postcopy is not None:
            limit_s = setup.postcopy.recover_timeout
            context.protocol.recovery = Recovery(limit_s, context.protocol.attempt)
            postcopy = await run(Postcopy, guest, setup.postcopy, stream_format)
        stream = PageStream.of(context, setup, stream_format, placer.channel, postcopy)
    except BaseException:
        await run_to_completion(run(release, guest))
        raise
    context.timeline.log("ready")
    return Prepared(setup, guest, placer, stream, postcopy, CpuTime())


def release(guest: Guest) -> None:
    """Stop a guest and free its memory; blocks.

    Args:
        guest: In any state, but no handler may serve its page faults any more.
    """
    guest.stop()
    guest.close()


def ready(prepared: Prepared) -> messages.Ready:
    """Say that pages may come, and by which mechanism some may be missing.

    Args:
        prepared: Only its post-copy part is looked at.

    Returns:
        What to tell the source.
    """
    if prepared.postcopy is None:
        return messages.Ready()
    mechanism = prepared.postcopy.mechanism
    return messages.Ready(faults=mechanism.name, faults_reason=mechanism.reason)


def _make_guest(setup: messages.Setup, say: Callable[[str], None], witness: Path | None) -> Guest:
    try:
        compile_kernels(setup.guest, say)
        return Guest(setup.guest, boot=False, vcpu_nice=setup.vcpu_nice, witness=witness)
    except UsageError as error:
        if not setup.guest.workload.startswith("trace:"):
            raise
        # The peer names a file of ours: what is in it, or why it can't be read, is none of its
        # business.
        say(str(error))
        raise UsageError(
            "the trace that this guest replays can't be had at the destination, whose log says why"
        ) from None
