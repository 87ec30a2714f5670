"""What a destination measured, as it travels: the parts of `Finished`, each field with its bounds.

Whether the fields of one part agree is checked here; whether they fit the guest and the migration,
by the source, which knows both (`source_agent.report.plausibility`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from pageferry.common.report.page_bins import MOST_BARS, MOST_BINS, MOST_COLUMNS
from pageferry.common.wire.frames import MAX_CONTROL

MOST_TEXT: Final = 2000  # characters
MOST_VCPUS: Final = 64
MOST_COUNT: Final = 2**63 - 1
MOST_STEPS: Final = 2**62  # as of a snapshot
MOST_PAGES: Final = 2**32  # of the largest guest
MOST_SECONDS: Final = 1e9


def printable(text: str) -> str:
    """Replace what a terminal must not be shown: what moves its cursor, or looks like two lines.

    Args:
        text: A peer's words.

    Returns:
        As many characters; each that is not printable has become U+FFFD.
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


PeerText = Annotated[str, Field(max_length=MOST_TEXT), AfterValidator(printable)]
Nanoseconds = Annotated[int, Field(ge=0, le=MOST_COUNT)]
Count = Annotated[int, Field(ge=0, le=MOST_COUNT)]
Steps = Annotated[int, Field(ge=0, le=MOST_STEPS)]
PageCount = Annotated[int, Field(ge=0, le=MOST_PAGES)]
Seconds = Annotated[float, Field(ge=0, le=MOST_SECONDS)]
Microseconds = Annotated[float, Field(ge=0, le=1e13)]


class Bounded(BaseModel):
    """Base of models with known fields only, and without NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# Names under which a report says something of its own about an event.
_RESERVED: Final = frozenset({"t_ms", "agent", "event"})
_Word = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_-]{0,63}$")]
_Value = bool | Annotated[int, Field(ge=-MOST_COUNT, le=MOST_COUNT)] | float | PeerText | None


def _not_reserved(name: str) -> str:
    if name in _RESERVED:
        raise ValueError(f"{name} is not for an event to say")
    return name


_Name = Annotated[_Word, AfterValidator(_not_reserved)]
_Values = Annotated[list[_Value], Field(max_length=MOST_VCPUS)]


class WireEvent(Bounded):
    """One event of the destination's timeline."""

    t_ns: Nanoseconds
    event: _Word
    fields: Annotated[dict[_Name, _Value | _Values], Field(max_length=16)] = Field(
        default_factory=dict
    )

    @classmethod
    def of(cls, t_ns: int, event: str, fields: Mapping[str, Any]) -> Self:
        """Make one of an event of our own.

        Args:
            t_ns: The destination's clock.
            event: What has happened.
            fields: What goes with it. Strings, which may cite a peer, are cut at `MOST_TEXT`
                characters.

        Returns:
            The event, within its bounds.
        """
        short = {
            name: value[:MOST_TEXT] if isinstance(value, str) else value
            for name, value in fields.items()
        }
        return cls(t_ns=t_ns, event=event, fields=short)


class WireSample(Bounded):
    """How far the guest had come at a moment.

    Attributes:
        steps: Of all vCPUs together, cumulative.
        dirtied_pages: Cumulative, too.
    """

    t_ns: Nanoseconds
    steps: Annotated[int, Field(ge=0, le=MOST_VCPUS * MOST_STEPS)]
    dirtied_pages: Count


class WireBeats(Bounded):
    """A vCPU as its own witness, on the destination's clock.

    Attributes:
        gap_ns: The longest time between two heartbeats.
        gap_start_ns: When that began.
    """

    first_ns: Nanoseconds
    last_ns: Nanoseconds
    gap_ns: Nanoseconds
    gap_start_ns: Nanoseconds

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last_ns < self.first_ns:
            raise ValueError("the last heartbeat is before the first one")
        return self


class WireCache(Bounded):
    """What the guest's caches counted at the destination.

    Attributes:
        spills: Write-backs that were forced while they were held back.
    """

    hits: Count
    misses: Count
    write_backs: Count
    spills: Count
    drained_lines: Count


BinCounts = Annotated[list[PageCount], Field(max_length=MOST_BINS)]


class WireActivity(Bounded):
    """Missing pages and faults at a moment, by bins of pages.

    Attributes:
        t_ns: The destination's clock.
        missing: Pages of each bin that were missing then.
        faulted: Faults in each bin since the activity before.
    """

    t_ns: Nanoseconds
    missing: BinCounts
    faulted: Annotated[list[Count], Field(max_length=MOST_BINS)]


class WireLatency(Bounded):
    """Latencies of faults, by the nearest rank, in microseconds.

    Attributes:
        within_us: They are above the exact ones by at most this.
    """

    p50: Microseconds
    p90: Microseconds
    p99: Microseconds
    p999: Microseconds
    max: Microseconds
    within_us: Microseconds = 0.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        ranks = (self.p50, self.p90, self.p99, self.p999, self.max)
        if any(later < earlier for earlier, later in pairwise(ranks)):
            raise ValueError("percentiles that go down")
        return self


_Bar = tuple[Annotated[int, Field(ge=0, lt=MOST_BARS)], Count]
_Missing = tuple[Nanoseconds, PageCount]
_Fault = tuple[Nanoseconds, Microseconds, PageCount, Annotated[int, Field(ge=0, lt=MOST_VCPUS)]]


class WirePostcopy(Bounded):
    """What the destination counted while pages were missing.

    Attributes:
        missing: Pages that never came (lazy copy), a bit a page (`common.wire.bitmap.pack`); null
            where none are missing.
        latencies: (bar, faults), with bars as in `common.report.latency_histogram`.
        missing_over_time: (ns of the destination's clock, pages still missing).
        trace: (ns, us, page, vCPU) of each fault.
    """

    faults: Count
    zero_fills: Count
    pages_pulled: PageCount
    pages_pushed: PageCount
    duplicates: Count
    missing: bytes | None = Field(default=None, max_length=MAX_CONTROL)
    latency_us: WireLatency | None
    latencies: list[_Bar] = Field(default_factory=list, max_length=MOST_BARS)
    missing_over_time: list[_Missing] = Field(max_length=20_000)
    trace: list[_Fault] = Field(max_length=65_536)
    activity: list[WireActivity] = Field(default_factory=list, max_length=MOST_COLUMNS)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not in_order(t_ns for t_ns, _ in self.missing_over_time):
            raise ValueError("missing pages over a time that goes back")
        if not in_order(each.t_ns for each in self.activity):
            raise ValueError("activity over a time that goes back")
        if len({len(part) for each in self.activity for part in (each.missing, each.faulted)}) > 1:
            raise ValueError("activity in bins of another number each time")
        return self


def in_order(times: Iterable[int]) -> bool:
    """Return whether no time is before the one in front of it.

    Args:
        times: In any unit.

    Returns:
        True for fewer than two, too.
    """
    return all(later >= earlier for earlier, later in pairwise(times))
