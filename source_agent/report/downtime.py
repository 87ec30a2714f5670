"""The downtime in parts: where the time went while no vCPU ran anywhere."""

from __future__ import annotations

from pageferry.common.report.sections.rounds import DowntimePart
from pageferry.source_agent.measurements import Measurements


def downtime_parts(record: Measurements, resumed_ns: int | None) -> list[DowntimePart]:
    """Split the downtime into parts, each of which begins where the one before ended.

    Args:
        record: Its stop noted the parts as they ended.
        resumed_ns: When the last vCPU ran at the destination, ns of our clock; None: not known.

    Returns:
        The parts in order; none without a resume.
    """
    final = record.precopy.final
    if resumed_ns is None or final is None:
        return []
    ends = list(final.downtime.ends)
    commit_ns = _commit_arrived(record)
    if commit_ns is not None:
        ends.append(("snapshot and commit", commit_ns))
    ends.append(("resume", resumed_ns))
    paused_ns = start_ns = final.downtime.paused_ns
    out = []
    for name, at_ns in ends:
        # Two clocks may differ by more than the length of a part.
        end_ns = min(max(at_ns, start_ns), resumed_ns)
        since_ms, ms = (start_ns - paused_ns) / 1e6, (end_ns - start_ns) / 1e6
        out.append(DowntimePart(name=name, start_ms=since_ms, ms=ms))
        start_ns = end_ns
    return out


def _commit_arrived(record: Measurements) -> int | None:
    finished, clock = record.result.finished, record.connection.clock
    if finished is None or clock is None:
        return None
    for event in finished.events:
        if event.event == "commit-received":
            return clock.to_local(event.t_ns)
    return None
