"""What the destination measured, once the guest has had its run here."""

from __future__ import annotations

from pageferry.common.guest.machine import Guest
from pageferry.common.guest.progress import Progress
from pageferry.common.wire import bitmap, messages
from pageferry.common.wire.results import WireBeats, WireCache, WireEvent, WirePostcopy, WireSample
from pageferry.dest_agent.session.context import DestContext, Prepared


def finish_guest(
    context: DestContext, prepared: Prepared, samples: list[Progress], fetched: bool
) -> messages.Finished:
    """Stop and digest the guest unless it is kept; blocks.

    Args:
        context: Its timeline goes into the result.
        prepared: Its guest runs, or is paused if a lazy copy has ended.
        samples: The guest's progress since it runs here, oldest first.
        fetched: Whether pages were missing when it began to run.

    Returns:
        What the source is to be sent.
    """
    setup, guest, timeline = prepared.setup, prepared.guest, context.timeline
    kept, verify = setup.keep is not None, setup.verify and setup.keep is None
    if kept:
        timeline.log("guest-kept", steps=list(guest.steps()))
    else:
        stopped_ns = guest.pause()
        timeline.log("guest-stopped", t_ns=stopped_ns, steps=list(guest.steps()))
    beats, cache = guest.heartbeats(), guest.cache_stats()
    if not kept:
        guest.drain()
    postcopy = _postcopy(context, prepared) if fetched else None
    digest = _digest(guest, postcopy) if verify else None
    if digest is not None:
        timeline.log("digested", digest=digest)
    stream = prepared.stream
    return messages.Finished(
        steps=list(guest.steps()),
        digest=digest,
        check=guest.check() if verify and not (postcopy and postcopy.missing) else None,
        postcopy=postcopy,
        cpu_s=prepared.cpu.used_s,
        received_bytes=stream.received_bytes,
        unpack_cpu_s=stream.unpack_cpu_s,
        beats=[
            WireBeats(
                first_ns=b.first_ns, last_ns=b.last_ns, gap_ns=b.gap_ns, gap_start_ns=b.gap_start_ns
            )
            for b in beats
        ],
        cache=None if cache is None else WireCache(**cache),
        samples=[
            WireSample(t_ns=s.t_ns, steps=s.steps, dirtied_pages=s.dirtied_pages)
            for s in thin_samples(samples)
        ],
        events=[WireEvent.of(e.t_ns, e.event, e.fields) for e in timeline.events],
    )


def _postcopy(context: DestContext, prepared: Prepared) -> WirePostcopy | None:
    postcopy = prepared.postcopy
    if postcopy is None:
        return None
    if not context.protocol.handover.finished:  # lazy copy
        postcopy.settle()
    return postcopy.result()


def _digest(guest: Guest, postcopy: WirePostcopy | None) -> str:
    if postcopy is None or postcopy.missing is None:
        return guest.digest()
    return guest.digest_of(~bitmap.unpack(postcopy.missing, guest.n_pages))


def thin_samples(samples: list[Progress], most: int = 10_000) -> list[Progress]:
    """Thin out samples evenly: a long run is shown coarser, not cut off.

    Args:
        samples: In order; not changed.
        most: How many may be left.

    Returns:
        The first, and then one in so many.
    """
    return samples[:: max(1, -(-len(samples) // most))]
