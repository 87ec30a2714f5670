"""Sections of a report about the network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pageferry.common.report.sections.base import ReportSection


class DirectionReport(ReportSection):
    """One direction of a shaped link, as it was asked for.

    Attributes:
        rate_Bps: Bytes per second; null where it has no rate.
        delay_ms: Delay of every packet.
        jitter_ms: By how much the delay varies.
        loss: Share of packets that are lost.
        reorder: Share of packets that are reordered.
        queue_bytes: What may wait for the rate.
    """

    rate_Bps: float | None
    delay_ms: float
    jitter_ms: float
    loss: float
    reorder: float
    queue_bytes: int


class NetChange(ReportSection):
    """One moment of the link's schedule.

    Attributes:
        at_ms: When it was to change.
        change: What was to change.
        applied_ms: When it came true; null: it did not.
    """

    at_ms: float
    change: str
    applied_ms: float | None


class NetReport(ReportSection):
    """The shaped link of this run: asked for (`forward`, `back`), and measured before it was used.

    Attributes:
        link: Between two `namespaces`, or a `relay` of connections.
        shaper: `tc`, `tun` (a userspace link) or `relay`.
        forward: From source to destination.
        back: From destination to source.
        rtt_ms: Median round trip of a byte over TCP.
        throughput_Bps, throughput_back_Bps: Payload of one connection.
        wire_Bps, wire_back_Bps: The same with the headers of its packets, which is what a rate
            counts.
        schedule: How the link was to change in the run.
        packets: Packets of a userspace link by what became of them, from its beginning to its end;
            null for others.
        notes: What else is to be known of it.
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
