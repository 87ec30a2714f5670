"""What a destination measured, as it travels: the parts of `Finished`, each field with its bounds.

What goes together within one part is checked here; what has to fit the guest and the migration, by
the source, who knows both (`source_agent.report.plausibility`).
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
    """What a terminal may be shown: nothing that moves its cursor, or looks like two lines."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


Text = Annotated[str, Field(max_length=MOST_TEXT), AfterValidator(printable)]
Nanoseconds = Annotated[int, Field(ge=0, le=MOST_COUNT)]
Count = Annotated[int, Field(ge=0, le=MOST_COUNT)]
Steps = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Pages = Annotated[int, Field(ge=0, le=MOST_PAGES)]
Seconds = Annotated[float, Field(ge=0, le=MOST_SECONDS)]
Microseconds = Annotated[float, Field(ge=0, le=1e13)]


class Bounded(BaseModel):
    """Known fields only, and no number that is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# What stands beside an event in a report, where these are its own.
_RESERVED: Final = frozenset({"t_ms", "agent", "event"})
_Word = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_-]{0,63}$")]
_Value = bool | Annotated[int, Field(ge=-MOST_COUNT, le=MOST_COUNT)] | float | Text | None


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
        """Of our own: what is too long of a peer's words that it cites is left out."""
        short = {
            name: value[:MOST_TEXT] if isinstance(value, str) else value
            for name, value in fields.items()
        }
        return cls(t_ns=t_ns, event=event, fields=short)


class WireSample(Bounded):
    """Guest progress since the sample before. steps, dirtied_pages: cumulative counts."""

    t_ns: Nanoseconds
    steps: Annotated[int, Field(ge=0, le=MOST_VCPUS * MOST_STEPS)]
    dirtied_pages: Count


class WireBeats(Bounded):
    """A vCPU as its own witness, on the destination's clock. gap: its longest, with its start."""

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
    """What the guest's caches counted there. spills: write-backs forced while held."""

    hits: Count
    misses: Count
    write_backs: Count
    spills: Count
    drained_lines: Count


BinCounts = Annotated[list[Pages], Field(max_length=MOST_BINS)]


class WireActivity(Bounded):
    """At t_ns (its clock) so many pages of each bin were missing.

    faulted: those that were waited for since the one before.
    """

    t_ns: Nanoseconds
    missing: BinCounts
    faulted: Annotated[list[Count], Field(max_length=MOST_BINS)]


class WireLatency(Bounded):
    """Of faults, by the nearest rank. within_us: so little above the exact ones they may be."""

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
_Missing = tuple[Nanoseconds, Pages]
_Fault = tuple[Nanoseconds, Microseconds, Pages, Annotated[int, Field(ge=0, lt=MOST_VCPUS)]]


class WirePostcopy(Bounded):
    """What the destination counted while pages were missing. Latencies are microseconds.

    missing: pages that never came (lazy copy), as in `Commit`; null where none are missing.
    latencies: (bar, faults), as `common.report.latency_histogram` has bars.
    missing_over_time: (ns of its clock, pages still missing). trace: (ns, us, page, vCPU) a fault.
    """

    faults: Count
    zero_fills: Count
    pages_pulled: Pages
    pages_pushed: Pages
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
    """Whether none is before the one in front of it."""
    return all(later >= earlier for earlier, later in pairwise(times))
