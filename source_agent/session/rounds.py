"""Rounds of pages until the strategy says stop, and the stop itself, which pauses the guest."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from pageferry.common.errors import PageferryError
from pageferry.common.guest.vcpu import vcpus_cpu_s
from pageferry.common.strategy.base import NextRound, StopAndCopy, Strategy, SwitchToPostCopy
from pageferry.common.wire import messages
from pageferry.source_agent.precopy.page_sender import PageSender
from pageferry.source_agent.precopy.rounds import Rounds, StopResult
from pageferry.source_agent.precopy.throttling import OnPeriod
from pageferry.source_agent.session.context import ReadyToSend, SourceContext
from pageferry.source_agent.setup import strategy_for

DEADLINE_SLACK_S: Final = 0.002


async def send_rounds(context: SourceContext, ready: ReadyToSend) -> StopAndCopy | SwitchToPostCopy:
    """Send rounds while the guest runs, until the strategy ends them.

    Args:
        context: Of the session.
        ready: The session after its warm-up.

    Returns:
        How the strategy ends the rounds.

    Raises:
        PageferryError: Whatever ends the migration early; the guest runs on here.
    """
    await _start(context, ready)
    strategy = context.record.precopy.strategy = strategy_for(context.config)
    with _deadline(context):
        decision = await _rounds(context, strategy, ready.rounds)
    context.connections.raise_failure()
    return decision


async def _start(context: SourceContext, ready: ReadyToSend) -> None:
    """Begin the migration: what the guest writes from here on counts."""
    guest, config, run = ready.guest, context.config, context.worker.run
    await run(guest.reset_gaps)
    counts = guest.write_counts() if config.count_writes else None
    if counts is not None:  # dirty lines in the cache have been written, but not written back
        counts[0] -= np.bitwise_count(guest.cached_dirty())
    context.record.started(guest.progress(), vcpus_cpu_s(), counts)
    if config.dirty_limit is not None:
        await run(guest.limit_dirty, config.dirty_limit)
    if config.dirty_tracker == "kernel":
        await run(guest.track_by_kernel)  # a guest that ran here before is not tracked yet
        await run(guest.harvest)  # writes are caught from here on


async def _rounds(
    context: SourceContext, strategy: Strategy, rounds: Rounds
) -> StopAndCopy | SwitchToPostCopy:
    decision = strategy.begin()
    watcher = strategy.on_dirty_sample if strategy.wants_dirty_samples else None
    context.record.decided(None, decision)
    while isinstance(decision, NextRound):
        context.notify(f"round {len(rounds.done) + 1}")
        sent = await _send_round(context, rounds, decision, watcher)
        context.protocol.round_sent(sent.index)
        done = await context.hear(messages.RoundDone)
        context.reached(f"after-round-{done.index}")
        elapsed_s = _elapsed_s(context)
        stats = await context.worker.run(rounds.acknowledged, sent, elapsed_s)
        decision = strategy.decide(stats)
        context.record.decided(stats, decision)
    return decision


async def _send_round(
    context: SourceContext, rounds: Rounds, order: NextRound, watcher: OnPeriod | None
) -> Any:
    try:
        return await context.worker.run(rounds.send, order, watcher)
    except PageferryError:
        await _raise_what_is_known(context)
        raise


async def _raise_what_is_known(context: SourceContext) -> None:
    await asyncio.sleep(0)  # let the reader say why, if it knows more
    context.connections.raise_failure()


async def stop_and_send(
    context: SourceContext, ready: ReadyToSend, stopping: Callable[[], StopResult]
) -> StopResult:
    """Pause the guest, and send what goes in the stop.

    Args:
        context: Of the session.
        ready: Its sampler is stopped.
        stopping: `Rounds.stop` or `Rounds.switch`; it blocks, and is called on the worker.

    Returns:
        The stop; the guest stays paused.

    Raises:
        PageferryError: Whatever has ended the connections; the guest may still be paused.
    """
    context.notify("handing over")
    await ready.sampler.stop()
    context.reached("before-pause")
    context.protocol.pause()
    try:
        final = await context.worker.run(stopping)
    except PageferryError:
        await _raise_what_is_known(context)
        raise
    context.connections.raise_failure()
    return final


# -- the time that it may take ---------------------------------------------------------------------


@contextlib.contextmanager
def _deadline(context: SourceContext) -> Iterator[None]:
    """Cut the round that is under way at `--timeout` short, where that is to be the last one."""
    config, page_sender = context.config, context.connections.page_sender
    if config.timeout is None or config.timeout_action == "cancel":
        yield
        return
    # Not before the strategy would see it, too: the loop's clock is coarser than ours.
    delay_s = config.timeout - _elapsed_s(context) + DEADLINE_SLACK_S
    timer = asyncio.get_running_loop().call_later(delay_s, _on_deadline, context, page_sender)
    try:
        yield
    finally:
        timer.cancel()
        page_sender.cut_short(False)


def _on_deadline(context: SourceContext, page_sender: PageSender) -> None:
    context.timeline.log("timeout", action=context.config.timeout_action)
    page_sender.cut_short(True)


def _elapsed_s(context: SourceContext) -> float:
    return (time.monotonic_ns() - context.record.times.start_ns) / 1e9
