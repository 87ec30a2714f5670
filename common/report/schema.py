"""The report of one migration: the schema that programs read.

Times are milliseconds (floats), sizes bytes (integers), rates bytes per second. `t_ms` counts from
the migration's start, on the source's clock; what happened before it is negative. What was not
asked for, or not measured, is null: 0 is always a measured nothing. A field has one type.

**Downtime** is the time between the moment when the first vCPU stopped at the source and the moment
when the last vCPU began at the destination, both stamped by the vCPUs themselves, clock offset
removed. In it lie: the other vCPUs' last quantum, the drain of the cache, the last pages, the
snapshot, and the resume. **Total time** goes from the migration's start (the guest is running, the
connection is set up) to the destination's word that it runs the guest; `setup_ms` lies before it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pageferry.common.report.methods import ReportMethods

Outcome = Literal["completed", "failed", "cancelled", "in-doubt", "lost"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DecisionReport(_Part):
    """What the strategy saw after a round, what it decided, and why.

    dirty_ratio: pages of which the destination has not the latest content, of all pages; null
    before the first round. expected_*: what a stop at this moment was expected to leave and cost.
    """

    after_round: int
    dirty_pages: int | None = None
    dirty_ratio: float | None = None
    dirty_rate: float | None = None
    bandwidth: float | None = None
    expected_remainder_bytes: int | None = None
    expected_downtime_ms: float | None = None
    decision: str
    reason: str


class RoundReport(_Part):
    """One round. pages: sent with content; zero_pages: sent as a mark.

    line_pages: of `pages`, those that travelled as changed 64-byte lines only; lines: how many
    lines that were; bytes_saved: what whole pages would have cost more; null where pages can't go
    by line. delta_pages: null without `--delta`. drained_lines: written back from the cache at the
    round's start; null without a cache. throttle: the most in this round of the share of its time
    in which `--auto-converge` kept the guest from running; null without it. pages_left: that were
    to be sent and were not, as `--timeout` cut the round short.
    """

    index: int
    kind: Literal["full", "dirty", "drain", "final"]
    pages: int
    zero_pages: int
    line_pages: int | None = None
    lines: int | None = None
    bytes_saved: int | None = None
    delta_pages: int | None = None
    drained_lines: int | None = None
    bytes: int
    start_ms: float
    duration_ms: float
    dirty_pages_after: int
    dirty_ratio_after: float
    throttle: float | None = None
    pages_left: int = 0


class TimelineSample(_Part):
    """The guest's speed over one sampling interval that ended at `t_ms`.

    dirty_pages_per_s: null where a simulation has no figure for it.
    """

    t_ms: float
    steps_per_s: float
    dirty_pages_per_s: float | None
    where: Literal["source", "dest"]


class GuestReport(_Part):
    """The guest as its own witness.

    before: from its start, or from the beginning of the session, to the migration's start (null
    without `--warmup`); during: from there to the resume, the downtime counted, and nothing of what
    comes after it: of a post-copy without rounds that is a few milliseconds; after: from the resume
    until the guest was stopped, waiting for pages counted (null without `--run-after`, unless it
    waited for pages).

    longest_gap_ms: the longest time between two beats of one vCPU while it should have run, the
    hand-over counted. A vCPU beats once a quantum (a few hundred microseconds of work): several
    faults within one quantum are one gap, which may be longer than the longest fault.

    throttle_peak: the most that auto-converge throttled it; slowed_ms: what all its vCPUs slept at
    the source because it was throttled, or dirtied more than `--dirty-limit` (that a workload's
    schedule goes slower is no sleep); null where neither was asked for.

    lost: the share of its speed that it lost between the migration's start and its end, downtime,
    waiting for pages and recovery counted (of lazy copy until the guest was stopped); negative
    where it was faster than before; null where its speed before is not known. below_half_ms: for
    how much of that time it ran at less than half of its speed before, the downtime counted, from
    samples of about 100 ms.
    """

    steps_before: int | None = None
    steps_during: int | None = None
    steps_after: int | None = None
    steps_per_s_before: float | None = None
    steps_per_s_during: float | None = None
    steps_per_s_after: float | None = None
    longest_gap_ms: float | None = None
    longest_gap_start_ms: float | None = None
    throttle_peak: float | None = None
    slowed_ms: float | None = None
    lost: float | None = None
    below_half_ms: float | None = None
    runs_at: Literal["source", "dest", "nowhere", "unknown"] = "source"
    check: str | None = None
    timeline: list[TimelineSample] = Field(default_factory=list)


class CacheReport(_Part):
    """Counts over both hosts. spills: write-backs forced while held."""

    hits: int
    misses: int
    write_backs: int
    spills: int
    drained_lines: int


class CpuReport(_Part):
    """CPU seconds of each agent during the migration, its vCPUs not counted."""

    source: float
    dest: float | None


class CompressionReport(_Part):
    """What `--compress` cost and gained.

    raw_bytes: contents of pages and lines that it was to make shorter, bytes: what they took on the
    wire, headers not counted; ratio: the one by the other, null where nothing was sent. batches: of
    them; batches_in_vain: tried, and sent as they were because they did not become shorter by an
    eighth; batches_skipped: not tried, because compression had turned itself off (events
    `compression-off`, `compression-on`). cpu_s: compressing, and decompressing.
    """

    codec: Literal["zstd", "lz4"]
    raw_bytes: int
    bytes: int
    ratio: float | None
    batches: int
    batches_in_vain: int
    batches_skipped: int
    cpu_s: CpuReport


class XbzrleReport(_Part):
    """What `--delta xbzrle` did, by QEMU's names (`query-migrate`, `xbzrle-cache`).

    But for cache_hit, which QEMU does not tell.
    cache_size: bytes of old pages that the source kept; pages: that went as a delta, and bytes:
    what those took, with their table; cache_hit, cache_miss: pages that were looked up and were
    there, or not, zero pages not counted; cache_miss_rate: of all that were looked up;
    encoding_rate: bytes of those pages for a byte of their deltas; overflow: a delta was no shorter
    than what it stood for. Rates are null where nothing was counted. cpu_s: at the source.
    """

    cache_size: int
    bytes: int
    pages: int
    cache_hit: int
    cache_miss: int
    cache_miss_rate: float | None
    encoding_rate: float | None
    overflow: int
    cpu_s: float


class FaultLatency(_Part):
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


class FaultCount(_Part):
    """How many faults took from `from_us` to below `to_us` microseconds."""

    from_us: float = Field(gt=0)
    to_us: float = Field(gt=0)
    faults: int = Field(ge=0)


class MissingSample(_Part):
    """Pages that were still missing at `t_ms`."""

    t_ms: float
    pages: int


class FaultTrace(_Part):
    """One fault: when, how long, which page, which vCPU (-1: unknown)."""

    t_ms: float
    us: float
    page: int
    vcpu: int


class PostcopyReport(_Part):
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


PartName = Literal["pause", "drain", "last pages", "snapshot and commit", "resume"]


class DowntimePart(_Part):
    """A part of the downtime: `start_ms` after the first vCPU stopped, `ms` long. In order."""

    name: PartName
    start_ms: float
    ms: float


class ActivityColumn(_Part):
    """What happened to the guest's pages between `t_ms` and `t_ms + duration_ms`, by page bin.

    Each list is as long as there are bins and counts pages. dirtied: stale at the column's end,
    null after the switch, where nobody looks; sent: sent by the source, or placed at the
    destination once the guest runs there; faulted: that the guest had to wait for.
    """

    t_ms: float
    duration_ms: float
    phase: str
    dirtied: list[int] | None
    sent: list[int]
    faulted: list[int]


class HotPage(_Part):
    """One page's counts, as in `PagesReport`."""

    page: int
    writes: int | None
    write_backs: int | None
    sends: int


class PagesReport(_Part):
    """Where in memory things happened. Bin i holds pages [i * pages_per_bin, ...).

    writes: 64-byte lines that the guest wrote at the source during the migration, the cache's hits
    counted, and those that the cache held dirty when it began; write_backs: lines that reached
    memory there; sends: times that a page went over the wire. writes - write_backs is what the
    cache absorbed, or still holds. Without a cache the two are equal; null without
    `--count-writes`. `hottest`:
    the pages that were sent most often, most writes first among equals.
    """

    pages_per_bin: int
    writes: list[int] | None
    write_backs: list[int] | None
    sends: list[int]
    writes_total: int | None
    write_backs_total: int | None
    hottest: list[HotPage]
    activity: list[ActivityColumn]


class EstimateReport(_Part):
    """What another way would have cost for this run's dirty history, by calculation.

    name: `path 1`, `path 2`, `path 3`, or a strategy. taken: it is the way that was taken, so that
    the estimate can be compared with what was measured: error_* are estimate / measured - 1.
    """

    name: str
    taken: bool
    downtime_ms: float
    total_time_ms: float
    bytes: int
    rounds: int
    error_downtime: float | None = None
    error_total_time: float | None = None
    error_bytes: float | None = None


class OracleReport(_Part):
    """The least that this guest on this link allowed any strategy, and how far the run was from it.

    least_bytes: every page once, zero pages as marks; least_downtime_ms: this run's switch-over
    with nothing left to send. *_ratio: measured / least.
    """

    least_bytes: int
    least_downtime_ms: float
    least_total_time_ms: float
    bytes_ratio: float
    downtime_ratio: float
    total_time_ratio: float


class BurstinessReport(_Part):
    """How evenly bytes left the source, while pages were sent within a rate limit.

    windows: stretches of `window_ms` that were looked at; p50, p99, max: the share of the rate that
    they had (1: just the rate). From what was handed to the kernel, at the time of it.
    """

    pacing: Literal["bucket", "kernel"]
    window_ms: float
    windows: int
    p50: float
    p99: float
    max: float


class DirtyLook(_Part):
    """What had become dirty `t_ms` after the measuring began: distinct pages and 64-byte lines.

    bytes: what sending it would put on the wire.
    """

    t_ms: float
    pages: int
    lines: int
    bytes: int


class StrategyPrediction(_Part):
    """What a strategy was expected to cost. total_time_ms, bytes: of lazy copy, which ends with the

    guest, `--run-after` and the least that must be moved (`note` says so). converges: false of
    pre-copy whose rounds end before what is left fits in the downtime limit.
    """

    strategy: str
    total_time_ms: float
    downtime_ms: float
    bytes: int
    rounds: int
    path: int | None
    note: str | None = None
    converges: bool = True


class PredictionCheck(_Part):
    """How far the prediction of the strategy that was taken is from what was measured.

    *_error: predicted / measured - 1; *_error_ms: predicted - measured.
    """

    strategy: str
    total_time_error: float
    total_time_error_ms: float
    downtime_error: float
    downtime_error_ms: float
    bytes_error: float


class PredictionReport(_Part):
    """What each strategy was expected to cost before the migration began, and from what.

    measured_ms: for how long the guest was looked at; dirty_rate: distinct pages that it dirtied in
    that time, bytes per second; curve: how they gathered. bandwidth: what was reckoned with (null:
    no limit, and no page to probe with), and bandwidth_from why: the limit, `--assume-bandwidth`,
    or what a probe over loopback reached (`probed`, null where there was none). steps_per_s_*: the
    guest's speed before the measuring (null: it had not run) and meanwhile. not_predicted: options
    that the figures leave out. choice: the strategy that `--downtime-limit` speaks for. taken: null
    where the migration did not end, or where there was none.
    """

    measured_ms: float
    dirty_rate: float
    curve: list[DirtyLook]
    zero_pages: int
    bandwidth: float | None
    bandwidth_from: Literal["limit", "assumed", "loopback"]
    probed: float | None = None
    steps_per_s_before: float | None
    steps_per_s_while: float
    strategies: list[StrategyPrediction]
    downtime_limit_ms: float
    choice: str
    why: str
    not_predicted: list[str] = Field(default_factory=list)
    taken: PredictionCheck | None = None

    def to_json(self) -> str:
        """Indented JSON, one trailing newline."""
        return self.model_dump_json(indent=2) + "\n"


class DirectionReport(_Part):
    """One direction of a shaped link, as it was asked for. rate_Bps: null where there is none.

    queue_bytes: what may wait for the rate.
    """

    rate_Bps: float | None
    delay_ms: float
    jitter_ms: float
    loss: float
    reorder: float
    queue_bytes: int


class NetChange(_Part):
    """One moment of the link's schedule. applied_ms: when it came true; null: it did not."""

    at_ms: float
    change: str
    applied_ms: float | None


class NetReport(_Part):
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


class EventReport(_Part):
    """One event of either agent; its own fields stand beside these three."""

    model_config = ConfigDict(extra="allow")

    t_ms: float
    agent: Literal["source", "dest"]
    event: str


class BoundReport(_Part):
    """What held the pages up. link_Bps: what one connection over the link carries, null where no

    rate of it is known; limit_Bps: `--max-bandwidth`, null where there was none.
    """

    by: Literal["link", "max-bandwidth"]
    limit_Bps: float | None
    link_Bps: float | None


class LimitMissed(_Part):
    """A limit that was not kept: of the user, or by which the strategy stops.

    limit: the option's name in `config`; limit_ms: what it says, measured_ms: what it was. why: a
    clause.
    """

    limit: Literal["downtime_limit", "timeout"]
    limit_ms: float
    measured_ms: float
    why: str


class Report(ReportMethods, _Part):
    """Everything that is known about one migration.

    date: when the session began, or the simulation was made: UTC, ISO 8601. command: the command
    line that made it, as a shell reads it; of a cell of a sweep, the one that would make it alone.
    config: every option as used, beside versions, hosts, kernel, and the processors' models.
    converged: whether rounds ended because a stop fitted the downtime limit; false where
    `--max-rounds` or `--timeout` ended them, null of a strategy whose rounds do not go on until
    then. limits_missed: empty where none was. bound: null where the link has no rate that is known.
    """

    schema_version: Literal[1] = 1
    session: str
    strategy: str
    path: int | None
    outcome: Outcome
    error: str | None = None
    date: str | None = None
    command: str | None = None
    converged: bool | None = None
    limits_missed: list[LimitMissed] = Field(default_factory=list)
    config: dict[str, Any]
    downtime_ms: float | None = None
    downtime_error_ms: float | None = None
    downtime_parts: list[DowntimePart] = Field(default_factory=list)
    total_time_ms: float | None = None
    setup_ms: float | None = None
    decisions: list[DecisionReport] = Field(default_factory=list)
    rounds: list[RoundReport] = Field(default_factory=list)
    bytes_on_wire: int = 0
    pages_sent: int = 0
    zero_pages: int = 0
    pages_resent: int = 0
    lines_sent: int | None = None
    bytes_saved: int | None = None
    pages: PagesReport | None = None
    estimates: list[EstimateReport] = Field(default_factory=list)
    oracle: OracleReport | None = None
    prediction: PredictionReport | None = None
    postcopy: PostcopyReport | None = None
    guest: GuestReport = Field(default_factory=GuestReport)
    cache: CacheReport | None = None
    compression: CompressionReport | None = None
    xbzrle: XbzrleReport | None = None
    cpu_s: CpuReport | None = None
    burstiness: BurstinessReport | None = None
    net: NetReport | None = None
    bound: BoundReport | None = None
    verified: bool | None = None
    digest_source: str | None = None
    digest_dest: str | None = None
    events: list[EventReport] = Field(default_factory=list)

    def to_json(self) -> str:
        """Indented JSON, one trailing newline."""
        return self.model_dump_json(indent=2) + "\n"
