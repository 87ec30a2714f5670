"""Of a report: the network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pageferry.common.report.sections.base import ReportSection


class DirectionReport(ReportSection):
    """One direction of a shaped link, as it was asked for. rate_Bps: null where there is none.

    queue_bytes: what may wait for the rate.
    """

    rate_Bps: float | None
    delay_ms: float
    jitter_ms: float
    loss: float
    reorder: float
    queue_bytes: int


class NetChange(ReportSection):
    """One moment of the link's schedule. applied_ms: when it came true; null: it did not."""

    at_ms: float
    change: str
    applied_ms: float | None


class NetReport(ReportSection):
    """The shaped link of this run: asked for (`forward`, `back`), and measured before it was used.

    link: between two `namespaces`, or a `relay` of connections. shaper: `tc`, `tun` (a userspace
    link) or `relay`. rtt_ms: median round trip of a byte over TCP; throughput_*: payload of one
    connection, wire_*: with the headers of its packets, which is what a rate counts. packets: of a
    userspace link, by what became of them, from its beginning to its end; null of others.
    """

    link: Literal["namespaces", "relay"]
    shaper: str
    forward: DirectionReport
    back: DirectionReport
    rtt_ms: float
    throughput_Bps: float
    throughput_back_Bps: float
    wire_Bps: float
    wire_back_Bps: float
    schedule: list[NetChange] = Field(default_factory=list)
    packets: dict[str, dict[str, int]] | None = None
    notes: list[str] = Field(default_factory=list)
