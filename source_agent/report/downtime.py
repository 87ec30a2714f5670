"""The downtime in parts: what the time went to while no vCPU ran anywhere."""

from __future__ import annotations

from pageferry.common.report.sections.rounds import DowntimePart, PartName
from pageferry.source_agent.measurements import Record


def downtime_parts(record: Record, resumed_ns: int | None) -> list[DowntimePart]:
    """Cut where events say that one thing ended and the next began; empty without a resume.

    resumed_ns: when the last vCPU ran at the destination, on our clock.
    """
    final = record.final
    if resumed_ns is None or final is None:
        return []
    find = record.timeline.find
    ends: list[tuple[PartName, int | None]] = [("pause", find("all-paused"))]
    if final.round is not None:
        ends += [("drain", find("drained")), ("last pages", find("last-pages-sent"))]
    ends += [("snapshot and commit", _commit_arrived(record)), ("resume", resumed_ns)]
    out, start_ns = [], final.paused_ns
    for name, at_ns in ends:
        if at_ns is None:
            continue
        # Two clocks may differ by more than a part is long.
        end_ns = min(max(at_ns, start_ns), resumed_ns)
        since_ms, ms = (start_ns - final.paused_ns) / 1e6, (end_ns - start_ns) / 1e6
        out.append(DowntimePart(name=name, start_ms=since_ms, ms=ms))
        start_ns = end_ns
    return out


def _commit_arrived(record: Record) -> int | None:
    if record.finished is None or record.clock is None:
        return None
    for event in record.finished.events:
        if event.event == "commit-received":
            return record.clock.to_local(event.t_ns)
    return None
