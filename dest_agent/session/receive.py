"""From `Ready` to a whole commit: rounds of pages come in while the guest runs at the source."""

from __future__ import annotations

from pageferry.common.wire import messages
from pageferry.dest_agent.session.context import DestContext, Prepared
from pageferry.dest_agent.session.inbox import BarrierReached


async def receive_commit(context: DestContext, prepared: Prepared) -> messages.Commit:
    """Receive rounds until the commit and all pages that it needs are here.

    Args:
        context: The source has been told that pages may come.
        prepared: Pages that were expected and did not come are given back after round 1.

    Returns:
        The commit; nothing of it has been carried out.

    Raises:
        CancelledByUser: The source has cancelled.
        PageferryError: Anything else that ends the session before the commit is whole.
    """
    protocol = context.protocol
    while (commit := protocol.whole_commit) is None:
        item = await context.control.next()
        if isinstance(item, BarrierReached):
            await _round_received(context, prepared, item)
        else:
            protocol.receive(item)
            context.timeline.log("commit-received")
    context.reached("commit-received")
    return commit


async def _round_received(
    context: DestContext, prepared: Prepared, barrier: BarrierReached
) -> None:
    index = barrier.index
    done = context.protocol.barrier(index, barrier.t_ns)
    context.timeline.log("round-received", t_ns=barrier.t_ns, round=index)
    context.reached(f"round-{index}-received")
    if index == 1:
        await context.thread.run(prepared.placer.forget_unwritten)
    await context.control.send(done)


async def carry_out_commit(
    context: DestContext, prepared: Prepared, commit: messages.Commit
) -> None:
    """Carry out the whole commit: the guest runs here when this returns.

    Everything that may fail comes before the step after which there is no way back.

    Args:
        context: Its protocol takes that step.
        prepared: Its guest is paused, and is stopped if it can't be resumed.
        commit: Whole, as `receive_commit` returned it.

    Raises:
        ConnectionBroken: The source has asked meanwhile, and was answered `never`.
        PageferryError: The commit does not fit the guest, or the guest can't be resumed.
    """
    guest, protocol, run = prepared.guest, context.protocol, context.thread.run
    await run(guest.restore, commit.snapshot)
    missing = 0
    if commit.missing is not None:
        await run(_arm, prepared, commit.missing)
    protocol.commit()
    if commit.missing is None:
        prepared.stream.receiver.complete = True
    elif prepared.postcopy is not None:
        missing = prepared.postcopy.faults.missing_count
    prepared.cpu.mark()
    context.reached("before-resume")
    try:
        resumed_ns = await run(guest.resume)
    except BaseException:
        await run(guest.stop)  # some vCPUs may have begun
        protocol.guest_failed()
        raise
    protocol.resumed(resumed_ns)
    context.timeline.log("resumed", t_ns=resumed_ns, missing=missing)
    context.reached("resumed")


def _arm(prepared: Prepared, missing: bytes) -> None:
    postcopy = prepared.postcopy
    assert postcopy is not None  # noqa: S101 - the protocol takes no such commit without
    prepared.stream.receiver.place_with(postcopy.faults.staging)  # before pages fault
    postcopy.arm(missing, prepared.placer.in_memory)
