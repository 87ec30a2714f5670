"""Of a report: post-copy."""

from __future__ import annotations

from pydantic import Field

from pageferry.common.report.sections.base import ReportSection


class FaultLatency(ReportSection):
    """Microseconds from a fault until its page was in place: percentiles by the nearest rank.

    Each is a latency that a fault had: the least that so large a share of them did not exceed
    (numpy's `inverted_cdf`); max: the greatest. within_us: by how much the percentiles may be above
    the exact ones (0 up to 4,194,304 different latencies); null in reports of earlier versions,
    which rounded to 3 digits and their ranks to the nearest. A simulation knows the mean only: it
    is its `p50`, and the others are null.
    """

    p50: float
    p90: float | None
    p99: float | None
    p999: float | None
    max: float | None
    within_us: float | None = None


class FaultCount(ReportSection):
    """How many faults took from `from_us` to below `to_us` microseconds."""

    from_us: float = Field(gt=0)
    to_us: float = Field(gt=0)
    faults: int = Field(ge=0)


class MissingSample(ReportSection):
    """Pages that were still missing at `t_ms`."""

    t_ms: float
    pages: int


class FaultTrace(ReportSection):
    """One fault: when, how long, which page, which vCPU (-1: unknown)."""

    t_ms: float
    us: float
    page: int
    vcpu: int


class PostcopyReport(ReportSection):
    """The guest with pages missing. duration_ms: from the resume until nothing was missing.

    mechanism: `kernel` or `software`, with why it was taken. duplicates: pages that came twice
    because a push and a pull crossed. zero_fills: first touches of pages that were never missing,
    which the kernel's mechanism sees and the software's does not (null). trace: every fault, up to
    65,536; null without `--trace-faults`.
    pages_never_moved: lazy copy: what the guest never touched. fault_counts: the latencies by size.
    fault_histogram: of earlier versions: the same as an HDR histogram in its compressed base64
    form.
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
