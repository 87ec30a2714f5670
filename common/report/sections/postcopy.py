"""Sections of a report about post-copy."""

from __future__ import annotations

from pydantic import Field

from pageferry.common.report.sections.base import ReportSection


class FaultLatency(ReportSection):
    """Microseconds from a fault until its page was in place: percentiles by the nearest rank.

    Each is a latency that a fault had: the least that so large a share of them did not exceed
    (numpy's `inverted_cdf`). A simulation knows the mean only: it is its `p50`, and the others are
    null.

    Attributes:
        p50, p90, p99, p999: Percentiles.
        max: The greatest.
        within_us: By how much the percentiles may be above the exact ones (0 up to 4,194,304
            different latencies); null in reports of earlier versions, which rounded to 3 digits and
            their ranks to the nearest.
    """

    p50: float
    p90: float | None
    p99: float | None
    p999: float | None
    max: float | None
    within_us: float | None = None


class FaultCount(ReportSection):
    """How many faults took from `from_us` to below `to_us` microseconds.

    Attributes:
        from_us: The least latency.
        to_us: The first latency that is too long.
        faults: How many there were.
    """

    from_us: float = Field(gt=0)
    to_us: float = Field(gt=0)
    faults: int = Field(ge=0)


class MissingSample(ReportSection):
    """Pages that were still missing at `t_ms`.

    Attributes:
        t_ms: When it was looked at.
        pages: How many were missing.
    """

    t_ms: float
    pages: int


class FaultTrace(ReportSection):
    """One fault.

    Attributes:
        t_ms: When it was.
        us: How long the vCPU waited.
        page: Which page it waited for.
        vcpu: Which vCPU it was; -1: unknown.
    """

    t_ms: float
    us: float
    page: int
    vcpu: int


class PostcopyReport(ReportSection):
    """The guest with pages missing.

    Attributes:
        mechanism: `kernel` or `software`.
        mechanism_reason: Why it was taken.
        faults: How often a vCPU had to wait for a page.
        zero_fills: First touches of pages that were never missing, which the kernel's mechanism
            sees and the software's does not (null).
        pages_pulled: Pages that came because they, or a neighbour, were asked for.
        pages_pushed: Pages that came unasked.
        duplicates: Pages that came twice because a push and a pull crossed.
        pages_never_moved: Lazy copy: pages that the guest never touched.
        fault_latency_us: How long faults took; null where there was none.
        fault_counts: The latencies by size.
        fault_histogram: Of earlier versions: the same as an HDR histogram in its compressed base64
            form.
        duration_ms: From the resume until nothing was missing.
        missing: How many pages were missing over time.
        trace: Every fault, up to 65,536; null without `--trace-faults`.
    """

    mechanism: str
    mechanism_reason: str
    faults: int
    zero_fills: int | None
    pages_pulled: int
    pages_pushed: int
    duplicates: int | None
    pages_never_moved: int
    fault_latency_us: FaultLatency | None
    fault_counts: list[FaultCount] = Field(default_factory=list)
    fault_histogram: str | None = None
    duration_ms: float
    missing: list[MissingSample]
    trace: list[FaultTrace] | None
