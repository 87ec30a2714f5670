"""How a guest travels: connections, compression, limits, faults."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pageferry.common.command_line.field_spec import Words
from pageferry.common.config.addresses import checked_candidates
from pageferry.common.config.fields import (
    RATE,
    Compression,
    Duration,
    Injections,
    PrepageOption,
    Rate,
    Size,
    StallTimeout,
    TimeLimit,
    reader,
    shown_as,
)
from pageferry.common.config.prepage import ADAPTIVE
from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.units import PAGE_SIZE, format_rate, parse_rate


class TransferConfig(StrategyConfig):
    """How a guest travels, whichever guest it is."""

    max_bandwidth: Annotated[
        Rate,
        Field(
            ge=1,
            description="RATE limit, everything on the wire counted, or unlimited, which it is"
            " where a link with a rate is given",
        ),
    ] = 1e8
    pacing: Annotated[
        Literal["bucket", "kernel"],
        Field(description="who spaces the bytes out: our own schedule, or the kernel by socket"),
    ] = "bucket"
    channels: Annotated[
        int, Field(ge=1, le=64, description="parallel TCP connections for pages")
    ] = 1
    granularity: Annotated[
        Literal["page", "line"],
        Field(description="line: cached pages travel as their changed lines where that is shorter"),
    ] = "line"
    line_tracker: Annotated[
        Literal["cache", "log"],
        Field(
            description="who knows changed lines: the cache, as in hardware, or the log of every"
            " write, which knows them without a cache, too"
        ),
    ] = "cache"
    checksum: Annotated[
        bool, Field(description="a checksum a frame: what the wire changed is never used")
    ] = True
    compress: Annotated[
        Compression,
        Field(description="batches of pages travel compressed where that is shorter"),
    ] = "none"
    delta: Annotated[
        Literal["none", "xbzrle"],
        Field(description="pages sent before travel as what has changed, where that is shorter"),
    ] = "none"
    delta_cache: Annotated[
        Size, Field(ge=PAGE_SIZE, le=2**44, description="SIZE of the cache of pages for --delta")
    ] = 64 * 2**20
    dirty_limit: Annotated[
        Annotated[float, Field(ge=PAGE_SIZE, le=1e15)] | None,
        reader(parse_rate),
        shown_as(format_rate, "RATE"),
        RATE,
        Field(description="RATE of dirtied pages to which each vCPU is slowed down"),
    ] = None
    dirty_tracker: Annotated[
        Literal["log", "kernel"],
        Field(description="log: the guest's own; kernel: write protection, whole pages only"),
    ] = "log"
    congestion: Annotated[
        str,
        Words("a name such as cubic, bbr or reno: small letters, digits, - and _, at most 15"),
        Field(pattern="^[a-z0-9_-]{1,15}$", description="TCP congestion control of both ends"),
    ] = "cubic"
    recover_timeout: Annotated[
        Duration,
        Field(gt=0, le=86400, description="how long a lost peer is waited and asked for"),
    ] = 30.0
    recover_to: Annotated[
        str,
        shown_as(lambda text: text or "none", "HOSTS"),
        Words("HOST or HOST:PORT, several of them with commas between"),
        AfterValidator(checked_candidates),
        Field(
            max_length=4096,
            description="HOST[:PORT],... where a lost destination is looked for, too, in turn",
        ),
    ] = ""
    stall_timeout: StallTimeout = 30.0
    timeout: Annotated[
        TimeLimit, Field(description="TIME after which --timeout-action is taken")
    ] = None
    timeout_action: Annotated[
        Literal["cancel", "stop-and-copy", "post-copy"],
        Field(description="what is done at --timeout, unless the hand-over has begun"),
    ] = "cancel"
    inject: Injections = ()
    faults: Annotated[
        Literal["auto", "kernel", "software"],
        Field(description="how post-copy stops a guest at a missing page"),
    ] = "auto"
    prepage: Annotated[
        PrepageOption,
        Field(description="pages sent with a demanded one: N or adaptive"),
    ] = ADAPTIVE
    trace_faults: Annotated[bool, Field(description="report every fault of post-copy")] = False
    predict: Annotated[
        bool,
        Field(description="measure the guest first, and say what each strategy would cost"),
    ] = False
    predict_time: Annotated[
        Duration, Field(ge=0.05, le=3600, description="TIME for which --predict measures")
    ] = 1.0
    assume_bandwidth: Annotated[
        Annotated[float, Field(ge=1, le=1e15)] | None,
        reader(parse_rate),
        shown_as(format_rate, "RATE"),
        RATE,
        Field(description="RATE that --predict reckons with where --max-bandwidth is more"),
    ] = None

    def to_json(self) -> dict[str, Any]:
        """List every option as it is used, for a document.

        JSON has no infinity, and a field has one type: a rate without a limit is null, and
        `max_bandwidth_text` says what that means.

        Returns:
            Values that JSON can hold, by the names of their fields.
        """
        options = self.model_dump(mode="json")
        limit = self.max_bandwidth
        options["max_bandwidth"] = None if math.isinf(limit) else limit
        return options | {"max_bandwidth_text": format_rate(limit)}

    @model_validator(mode="after")
    def _predicted(self) -> Self:
        """Refuse options of a prediction without `--predict`."""
        for name in ("predict_time", "assume_bandwidth"):
            if not self.predict and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"--{name.replace('_', '-')} means nothing without --predict")
        return self
