"""From a connection to a destination that is ready for this guest's pages."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from pageferry.common.assumed_bandwidth import is_this_machine
from pageferry.common.capacity.agents import source_descriptors
from pageferry.common.capacity.descriptors import check_descriptors
from pageferry.common.guest.machine import Guest
from pageferry.common.wire import messages
from pageferry.source_agent.postcopy.supply import PageSupply
from pageferry.source_agent.precopy.rounds import Rounds
from pageferry.source_agent.prediction.predict import measure_and_predict
from pageferry.source_agent.session.context import SAMPLE_S, ReadyToSend, Sampler, SourceContext
from pageferry.source_agent.setup import boot_guest, make_encoder, setup_message

SETUP_S: Final = 600.0  # the destination may have to compile kernels and to map a large guest


async def open_control(context: SourceContext, *, secured: bool) -> None:
    """Open the control connection, and wait for the welcome.

    Args:
        context: Of the session.
        secured: Whether connections use TLS, which takes more descriptors.

    Raises:
        UsageError: There are too few file descriptors.
        PageferryError: Whatever a handshake may raise.
    """
    host, port = context.connections.address
    context.timeline.log("connect", host=host, port=port)
    context.protocol.connect()
    what = f"a migration over {context.config.channels} channel(s)"
    check_descriptors(what, source_descriptors(context.config, tls=secured))
    await context.connections.connect()
    context.reached("connected")


async def provide_guest(context: SourceContext) -> Guest:
    """Provide the guest: the resident one, or a new one that does not run yet.

    Args:
        context: Of the session.

    Returns:
        The guest.

    Raises:
        UsageError: There is no memory for it.
    """
    if context.resident is not None:
        return context.resident.guest
    context.notify("booting the guest")
    guest = await context.worker.run(boot_guest, context.config, context.notify, context.witness)
    context.timeline.log("guest-booted", memory=context.config.memory)
    return guest


async def set_up(context: SourceContext, guest: Guest) -> ReadyToSend:
    """Have the destination prepare for the guest, and open the connections of its pages.

    Args:
        context: Of the session, which is connected.
        guest: The guest that will travel.

    Returns:
        What the phases after this one work with.

    Raises:
        PageferryError: Whatever the destination refuses, and what breaks a connection.
    """
    started = time.monotonic_ns()
    config, connections, record = context.config, context.connections, context.record
    run = context.worker.run
    await connections.control.send(await run(setup_message, config, guest, context.resident))
    context.notify("waiting for the destination to be ready")
    record.connection.ready = await context.hear(messages.Ready, timeout_s=SETUP_S)
    encoder = record.precopy.encoder = await run(
        make_encoder, config, guest.memory, context.timeline, connections.stream
    )
    if encoder is not None:
        context.exits.push_async_callback(run, encoder.close)
    supply = await _supply(context, guest) if config.may_switch else None
    await connections.open_channels(guest.memory, supply)
    clock = record.connection.clock_before = await connections.control.sample_clock()
    rtt_s = clock.round_trip / 1e9
    rounds = record.precopy.rounds = await run(_rounds, context, guest, rtt_s)
    context.protocol.ready()
    record.times.setup_ns += time.monotonic_ns() - started
    context.timeline.log("set-up")
    context.reached("set-up")
    return ReadyToSend(guest, rounds, supply, Sampler(record), rtt_s)


async def _supply(context: SourceContext, guest: Guest) -> PageSupply:
    config, run = context.config, context.worker.run
    parts = guest.memory, config.max_bandwidth, context.connections.stream, context.connections.tell
    supply = await run(PageSupply, *parts)

    async def close() -> None:
        context.record.supplied(supply)
        await run(supply.close)

    context.exits.push_async_callback(close)
    return supply


def _rounds(context: SourceContext, guest: Guest, rtt_s: float) -> Rounds:
    config = context.config
    return Rounds(
        guest,
        context.connections.page_sender,
        context.timeline,
        config.max_bandwidth,
        rtt_s,
        stream=context.connections.stream,
        reached=context.reached,
        encoder=context.record.precopy.encoder,
    )


async def warm_up(context: SourceContext, ready: ReadyToSend) -> None:
    """Let the guest run here for as long as was asked for, and predict where that was.

    Args:
        context: Of the session.
        ready: The session after its setup; its sampler is started.

    Raises:
        PageferryError: Whatever has ended the connections meanwhile.
    """
    guest, record, config = ready.guest, context.record, context.config
    guest.watch(context.connections.tell)
    if context.resident is None:
        await context.worker.run(guest.start)
    record.guest.boot_progress = guest.progress()
    record.guest.boot_cache = guest.cache_stats()
    await context.worker.run(guest.resume)
    context.timeline.log("guest-runs", where="source")
    ready.sampler.start(guest)
    if config.warmup:
        context.notify("warming up")
        await _sleep_unless_broken(context, config.warmup)
    if config.predict:
        await _predict(context, ready)


async def _predict(context: SourceContext, ready: ReadyToSend) -> None:
    context.notify("measuring the guest")
    record = context.record
    record.predicted.predicting_ns = context.timeline.log("measuring")

    async def pause(seconds: float) -> None:
        await _sleep_unless_broken(context, seconds)

    prediction = record.predicted.prediction = await measure_and_predict(
        context.config,
        ready.guest,
        booted=record.guest.boot_progress,
        rtt_s=ready.rtt_s,
        loopback=is_this_machine(context.connections.address[0]),
        blocking=context.worker.run,
        pause=pause,
    )
    context.timeline.log("predicted", choice=prediction.choice)
    context.notify("predicted")  # the status that is shown carries it


async def _sleep_unless_broken(context: SourceContext, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        context.connections.raise_failure()
        await asyncio.sleep(min(left, SAMPLE_S))
