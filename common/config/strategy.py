"""Which strategy moves a guest, and its thresholds."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pageferry.common.command_line.options import Options
from pageferry.common.config.fields import Duration, Share, TriggerOption
from pageferry.common.config.postcopy_trigger import Trigger
from pageferry.common.units import format_share


class StrategyConfig(Options):
    """Which strategy moves the guest, and its thresholds."""

    strategy: Annotated[
        Literal[
            "three-path",
            "cache-aware",
            "pre-copy",
            "post-copy",
            "hybrid",
            "stop-and-copy",
            "lazy-copy",
        ],
        Field(description="how the guest is moved"),
    ] = "three-path"
    low: Annotated[
        Share, Field(ge=0, le=1, description="SHARE changed below which path 1 is taken")
    ] = 0.1
    high: Annotated[
        Share, Field(ge=0, le=1, description="SHARE changed from which path 3 is taken")
    ] = 0.5
    max_rounds: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description="fixed number of rounds of path 2, most rounds of pre-copy and others",
        ),
    ] = 9
    path3: Annotated[
        Literal["stop-and-copy", "post-copy"],
        Field(description="how path 3, and a path 2 out of rounds, hands over"),
    ] = "post-copy"
    path2_stop: Annotated[
        Literal["share", "limit"],
        Field(
            description="path 2 stops when less than --low is dirty (the paper's rule), or when"
            " what is left fits in --downtime-limit"
        ),
    ] = "share"
    hold_write_backs: Annotated[
        bool, Field(description="path 2 and cache-aware may have the cache hold its write-backs")
    ] = True
    downtime_limit: Annotated[
        Duration,
        Field(
            gt=0,
            le=3600,
            description="pre-copy, hybrid and cache-aware stop when what is left fits in this TIME",
        ),
    ] = 0.3
    postcopy_after: Annotated[
        TriggerOption,
        Field(description="when hybrid switches: rounds=N, time=TIME or stall"),
    ] = Trigger("rounds=2")

    auto_converge: Annotated[
        bool, Field(description="slow the guest down when its rounds do not shrink")
    ] = False
    cpu_throttle_initial: Annotated[
        Share, Field(gt=0, lt=1, description="SHARE of its time that auto-converge takes first")
    ] = 0.2
    cpu_throttle_increment: Annotated[
        Share, Field(gt=0, lt=1, description="SHARE that each further step takes at least")
    ] = 0.1
    max_cpu_throttle: Annotated[
        Share, Field(gt=0, le=0.9999, description="SHARE that auto-converge takes at most")
    ] = 0.99

    @model_validator(mode="after")
    def _thresholds(self) -> Self:
        """Refuse a lower threshold above its upper one."""
        if self.low > self.high:
            raise ValueError(
                f"--low {format_share(self.low)} is above --high {format_share(self.high)}"
            )
        if self.cpu_throttle_initial > self.max_cpu_throttle:
            raise ValueError(
                f"--cpu-throttle-initial {format_share(self.cpu_throttle_initial)} is above"
                f" --max-cpu-throttle {format_share(self.max_cpu_throttle)}"
            )
        return self
