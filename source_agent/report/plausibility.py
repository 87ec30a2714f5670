"""What a destination says of a guest that it ran, held against what the source knows.

Each field has its bounds where it is unpacked (`common.wire.results`). This file checks fields
against the guest, against one another, and against the time that has passed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.report.page_bins import Binning
from pageferry.common.wire import bitmap, messages
from pageferry.common.wire.results import WirePostcopy
from pageferry.source_agent.measurements import Measurements

# For times on another host's clock, and for a guest that went on while it was looked at.
_SLACK_NS: Final = 10_000_000_000
# A step at least touches memory; a replay of many more would never end.
_STEPS_A_NS: Final = 1


def check_finished(
    record: Measurements, finished: messages.Finished, steps: Sequence[int]
) -> messages.Finished:
    """Check that a destination's result is possible.

    Args:
        record: What the source knows of the migration.
        finished: The result.
        steps: Of each vCPU when the guest stopped here.

    Returns:
        The result, unchanged.

    Raises:
        RemoteProtocolError: Something in it is impossible; the message says what.
    """
    for wrong in _impossible(record, finished, steps):
        raise RemoteProtocolError(f"the destination's result is impossible: {wrong}")
    return finished


def _impossible(
    record: Measurements, finished: messages.Finished, steps: Sequence[int]
) -> Iterator[str]:
    """Yield each thing that cannot be, worst first."""
    config, final = record.config, record.precopy.final
    if len(finished.steps) != config.vcpus:
        yield f"steps of {len(finished.steps)} vCPUs, expected {config.vcpus}"
        return
    now_ns = time.monotonic_ns()
    ran_ns = now_ns - (
        final.downtime.paused_ns if final is not None else record.times.session_start_ns
    )
    most = (ran_ns + _SLACK_NS) * _STEPS_A_NS
    for here, there in zip(steps, finished.steps, strict=True):
        if there < here:
            yield f"a vCPU at step {there}, which was at {here} here"
        elif there - here > most:
            yield f"a vCPU that took {there - here} steps in {ran_ns / 1e9:.1f} s"
    if config.verify and finished.digest is None:
        yield "no digest, which was asked for"
    if (finished.cache is None) != (not config.cache):
        yield "counters of a cache where there is none, or none where there is one"
    yield from _times(record, finished, now_ns)
    if finished.postcopy is not None:
        if final is None or final.missing is None:
            yield "counters of post-copy, which this was not"
        else:
            yield from _counts(config.guest.pages, config.vcpus, finished.postcopy)


def _times(record: Measurements, finished: messages.Finished, now_ns: int) -> Iterator[str]:
    """Yield times before the session or still to come, and gaps beyond the guest's run."""
    clock = record.connection.clock
    if clock is None:
        return
    slack_ns = _SLACK_NS + clock.error_ns
    earliest, latest = record.times.session_start_ns - slack_ns, now_ns + slack_ns
    for name, t_ns in _moments(finished):
        if not earliest <= clock.to_local(t_ns) <= latest:
            yield f"{name} at another time than that of the migration"
            return
    for beats in finished.beats:
        end_ns = beats.gap_start_ns + beats.gap_ns
        if beats.gap_ns and not (
            beats.first_ns - slack_ns <= beats.gap_start_ns and end_ns <= beats.last_ns + slack_ns
        ):
            yield "a gap that is longer than the guest ran"


def _moments(finished: messages.Finished) -> Iterator[tuple[str, int]]:
    """Yield every time in it, with what happened then."""
    for beats in finished.beats:
        yield "a heartbeat", beats.first_ns
        yield "a heartbeat", beats.last_ns
    for sample in finished.samples:
        yield "a sample", sample.t_ns
    for event in finished.events:
        yield f"the event {event.event}", event.t_ns
    part = finished.postcopy
    if part is not None:
        for t_ns, _ in part.missing_over_time:
            yield "a count of missing pages", t_ns
        for t_ns, *_ in part.trace:
            yield "a fault", t_ns
        for column in part.activity:
            yield "activity", column.t_ns


def _counts(n_pages: int, vcpus: int, part: WirePostcopy) -> Iterator[str]:
    """Yield what does not fit a guest with these pages, each missing once at most."""
    if part.pages_pulled + part.pages_pushed > n_pages:
        yield f"{part.pages_pulled + part.pages_pushed} pages that came, of {n_pages}"
    if any(pages > n_pages for _, pages in part.missing_over_time):
        yield f"more pages missing than the guest's {n_pages}"
    if any(page >= n_pages or vcpu >= vcpus for _, _, page, vcpu in part.trace):
        yield "a fault of a page or a vCPU that the guest does not have"
    if sum(count for _, count in part.latencies) > part.faults:
        yield "latencies of more faults than there were"
    bins = Binning(n_pages).bins
    if any(
        len(column.missing) != bins or sum(column.missing) > n_pages for column in part.activity
    ):
        yield f"activity that is not of {bins} bins of {n_pages} pages"
    if part.missing is not None:
        try:
            bitmap.unpack(part.missing, n_pages)
        except RemoteProtocolError as error:
            yield str(error)
