"""After the hand-over: the guest's run at the destination, compared with a replay of our copy."""

from __future__ import annotations

import contextlib
from typing import Final

from pageferry.common.errors import PeerError, VerificationError
from pageferry.common.wire import messages
from pageferry.source_agent.replay import replay_copy
from pageferry.source_agent.session.context import ReadyToSend, SourceContext
from pageferry.source_agent.session.hand_over import check_result

FOLLOW_UP_S: Final = 600.0  # beyond run_after: the digest of a large guest on a busy host


async def follow_up(context: SourceContext, ready: ReadyToSend) -> None:
    """Wait for the guest's run at the destination, and verify it.

    Args:
        context: Of the session; its record gets the result and the digest.
        ready: Its guest is the paused copy, which is replayed where that was asked for.

    Raises:
        VerificationError: It is not the guest that left, or its own check failed.
        PageferryError: The result cannot be had, or is impossible.
    """
    record, control = context.record, context.connections.control
    # The result may be here although its sender is gone, as after a pause of this process.
    with contextlib.suppress(PeerError):
        record.connection.clock_after = await control.sample_clock()
    context.notify("the guest runs at the destination")
    finished = record.result.finished
    if finished is None:
        limit_s = context.config.run_after + FOLLOW_UP_S
        came = await context.hear(messages.Finished, timeout_s=limit_s)
        finished = record.result.finished = check_result(context, ready, came)
    context.reached("before-bye")
    with contextlib.suppress(PeerError):
        await control.send(messages.Bye())
    context.reached("verifying")
    if context.config.verify:
        context.notify("verifying: replaying the guest")
        record.result.digest_source = await context.worker.run(replay_copy, ready.guest, finished)
    record.ended("completed", None)
    if record.verified is False:
        raise VerificationError(
            "the guest's memory at the destination differs from its replay at the source:"
            f" {finished.digest} there, {record.result.digest_source} here"
        )
    if finished.check is not None:
        raise VerificationError(f"the guest's own check failed: {finished.check}")
