"""The configuration: one frozen model that becomes the command's flags, what the agents negotiate
and what the report repeats.

`GuestConfig` determines every byte of a guest (with a step count), `StrategyConfig` every decision
about rounds; `MigrationConfig` is both, and how the run goes about it. Sizes are bytes, rates bytes
per second, times seconds, shares fractions; strings are read as people write them (`common.units`).
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeAlias

from cyclopts import Parameter
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from pageferry.common.command_line.options import Options, Unit, Words, complaint
from pageferry.common.config.postcopy_trigger import Trigger
from pageferry.common.config.prepage import ADAPTIVE, Prepage
from pageferry.common.errors import UsageError
from pageferry.common.inject import Injection, parse_injection
from pageferry.common.units import (
    LINE_SIZE,
    PAGE_SIZE,
    format_rate,
    format_share,
    format_size,
    format_time,
    parse_percentage,
    parse_rate,
    parse_share,
    parse_size,
    parse_time,
    spoken_time,
)
from pageferry.common.workload.options import Extent
from pageferry.common.workload.registry import WorkloadError, choose


def _reader(parse: Callable[[str], Any]) -> BeforeValidator:
    """Text goes through the parser; a number is taken as it is."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _shown(text_of: Callable[[Any], str], metavar: str | None = None) -> Parameter:
    """How a default is shown in `--help`, and how `flags()` writes a value."""
    return Parameter(
        show_default=lambda value: "none" if value is None else text_of(value), metavar=metavar
    )


_SIZE: Final = Unit("a size", parse_size, format_size, "512MiB or 1GiB")
_RATE: Final = Unit("a rate", parse_rate, format_rate, "100MB/s or 800mbit", "too slow", "too fast")
_TIME: Final = Unit("a time", parse_time, spoken_time, "300ms or 2s", "too short", "too long")
_SHARE: Final = Unit("a share", parse_share, format_share, "10% or 0.1")
_PERCENTAGE: Final = Unit("a share", parse_percentage, format_share, "0.1%")

Size = Annotated[int, _reader(parse_size), _shown(format_size, "SIZE"), _SIZE]
Rate = Annotated[float, _reader(parse_rate), _shown(format_rate, "RATE"), _RATE]
Duration = Annotated[float, _reader(parse_time), _shown(format_time, "TIME"), _TIME]
TimeLimit = Annotated[
    Annotated[Duration, Field(gt=0, le=86400)] | None,
    _shown(format_time, "TIME"),
]
Share = Annotated[float, _reader(parse_share), _shown(format_share, "SHARE"), _SHARE]
# Of what tc writes in percent: a number without the sign has two readings.
Percentage = Annotated[float, _reader(parse_percentage), _shown(format_share, "SHARE"), _PERCENTAGE]


Compression = Literal["none", "zstd", "lz4"]


_CACHE: Final = 4 * 2**20


class GuestConfig(Options):
    """Everything that, with a step count, determines every byte of a guest."""

    memory: Annotated[Size, Field(ge=PAGE_SIZE, le=2**44, description="SIZE of guest memory")] = (
        2**30
    )
    vcpus: Annotated[int, Field(ge=1, le=64, description="number of vCPU threads")] = 1
    workload: Annotated[
        str,
        Field(
            max_length=512,
            description="what the guest does: NAME[:key=value,...], see pageferry workload list",
        ),
    ] = "idle"
    seed: Annotated[
        int, Field(ge=0, le=2**63 - 1, description="seed of the guest's memory and workload")
    ] = 1
    cache: Annotated[
        Size,
        Field(
            ge=0, le=2**36, description="SIZE of the write-back cache, all vCPUs together; 0: none"
        ),
    ] = _CACHE
    cache_line: Annotated[
        Size, Field(ge=LINE_SIZE, le=PAGE_SIZE, description="bytes of a cache line")
    ] = LINE_SIZE
    cache_ways: Annotated[int, Field(ge=1, le=64, description="ways of a cache set")] = 16

    @property
    def pages(self) -> int:
        """Number of 4 KiB pages."""
        return self.memory // PAGE_SIZE

    @model_validator(mode="after")
    def _geometry(self) -> Self:
        if self.memory % PAGE_SIZE:
            raise ValueError(
                f"--memory {self.memory} is not a whole number of {PAGE_SIZE}-byte pages: expected"
                f" something like {format_size(_binary(self.memory))}"
            )
        if self.pages < 16 * self.vcpus:
            raise ValueError(
                f"--memory {format_size(self.memory)} is too small for {self.vcpus} vCPU(s):"
                f" expected at least {format_size(16 * self.vcpus * PAGE_SIZE)}"
            )
        if self.cache_line & (self.cache_line - 1):
            raise ValueError(
                f"--cache-line {self.cache_line} is not a power of two: expected one from 64 to"
                " 4096"
            )
        if self.cache:
            self._cache_geometry()
        return self

    def _cache_geometry(self) -> None:
        """A vCPU's part must be a power of two of sets: a line number is masked to find its set.

        The default, and a size that one vCPU could have, is divided as far as that goes; of any
        other, which was chosen for its figure, those are named that divide without a rest.
        """
        way = self.cache_line * self.cache_ways
        exact = _power_of_two(self.cache, way * self.vcpus)
        divided = _power_of_two(self.cache, way) or self.cache == _CACHE
        if exact or (divided and self.cache_part):
            return
        sets = self.cache // (way * self.vcpus)
        smaller = way * self.vcpus << max(sets.bit_length() - 1, 0)
        largest = 2**36  # the field's own bound
        sizes = [format_size(size) for size in (smaller, 2 * smaller) if size <= largest]
        raise ValueError(
            f"--cache {format_size(self.cache)} does not divide into a power of two of sets of"
            f" {self.cache_ways} ways x {self.cache_line} bytes for {self.vcpus} vCPU(s):"
            f" expected {' or '.join(sizes)}"
        )

    @property
    def cache_part(self) -> int:
        """Bytes of a vCPU's cache: as many sets as there is room for, a power of two of them."""
        way = self.cache_line * self.cache_ways
        sets = self.cache // self.vcpus // way
        return 0 if not sets else way << (sets.bit_length() - 1)

    @property
    def cache_used(self) -> int:
        """Bytes of all vCPUs' caches."""
        return self.cache_part * self.vcpus

    @property
    def cache_note(self) -> str | None:
        """What a person should know of how the cache was divided; None: it all is used."""
        if self.cache_used == self.cache:
            return None
        each = "" if self.vcpus == 1 else f", {format_size(self.cache_part)} for each vCPU"
        return (
            f"of a cache of {format_size(self.cache)} {format_size(self.cache_used)} is used"
            f"{each}: a power of two of sets of {self.cache_ways} ways x {self.cache_line} bytes"
        )


def _binary(size: int) -> int:
    """As many KiB, MiB or GiB as there are kB, MB or GB, where that is a whole number of them."""
    for decimal, binary in ((10**9, 2**30), (10**6, 2**20)):
        if size % decimal == 0:
            return size // decimal * binary
    return -(-size // PAGE_SIZE) * PAGE_SIZE


def _power_of_two(size: int, unit: int) -> bool:
    """Whether it is a power of two of these."""
    count, rest = divmod(size, unit)
    return not rest and count > 0 and count & (count - 1) == 0


def parse_candidates(text: str) -> list[tuple[str, int | None]]:
    """`HOST[:PORT],...` of `--recover-to`; None: no port was written. Raises `UsageError`."""
    return [_candidate(part) for part in text.split(",")] if text else []


def _candidate(text: str) -> tuple[str, int | None]:
    host, colon, _ = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.endswith("]")):
        # No port, or an IPv6 address without one, which may stand without brackets here.
        bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        _check_host(bare, f"--recover-to: {_quoted(text)}", bracketed=":" in bare)
        return bare, None
    return parse_address(text, "--recover-to")


def _checked_candidates(text: str) -> str:
    try:
        parse_candidates(text)
    except UsageError as error:
        raise ValueError(str(error).removeprefix("--recover-to: ")) from None
    return text


def _parse_injections(texts: tuple[str, ...]) -> tuple[Injection, ...]:
    return tuple(map(parse_injection, texts))


# Parsed once, here: a value is the text that was written, which is what flags and documents have,
# and knows what it means. For whoever makes flags and columns of fields they are text.
if TYPE_CHECKING:
    TriggerOption: TypeAlias = Trigger
    PrepageOption: TypeAlias = Prepage
    InjectionsOption: TypeAlias = tuple[Injection, ...]
else:
    TriggerOption = Annotated[str, AfterValidator(Trigger)]
    PrepageOption = Annotated[str, AfterValidator(Prepage)]
    InjectionsOption = Annotated[tuple[str, ...], AfterValidator(_parse_injections)]

Injections = Annotated[
    InjectionsOption,
    Parameter(negative_iterable="", show_default=lambda texts: " ".join(texts) or "none"),
    Field(description="make it fail: POINT:ACTION, as 'pageferry inject list' has them"),
]
StallTimeout = Annotated[
    Duration,
    Field(ge=1, le=86400, description="a peer that is silent for this TIME is taken for gone"),
]


class StrategyConfig(Options):
    """Which strategy moves the guest, and its thresholds."""

    strategy: Annotated[
        Literal["three-path", "pre-copy", "post-copy", "hybrid", "stop-and-copy", "lazy-copy"],
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
            ge=0, le=1000, description="fixed number of rounds of path 2, most rounds of pre-copy"
        ),
    ] = 9
    path3: Annotated[
        Literal["stop-and-copy", "post-copy"],
        Field(description="how path 3, and a path 2 out of rounds, hands over"),
    ] = "post-copy"
    downtime_limit: Annotated[
        Duration,
        Field(
            gt=0,
            le=3600,
            description="pre-copy and hybrid stop when what is left fits in this TIME",
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
        _reader(parse_rate),
        _shown(format_rate, "RATE"),
        _RATE,
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
        _shown(lambda text: text or "none", "HOSTS"),
        Words("HOST or HOST:PORT, several of them with commas between"),
        AfterValidator(_checked_candidates),
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
        _reader(parse_rate),
        _shown(format_rate, "RATE"),
        _RATE,
        Field(description="RATE that --predict reckons with where --max-bandwidth is more"),
    ] = None

    def to_json(self) -> dict[str, Any]:
        """Every option as it is used, for a document.

        JSON has no infinity, and a field has one type: a rate without a limit is null, and
        `max_bandwidth_text` says what that means.
        """
        options = self.model_dump(mode="json")
        limit = self.max_bandwidth
        options["max_bandwidth"] = None if math.isinf(limit) else limit
        return options | {"max_bandwidth_text": format_rate(limit)}

    @model_validator(mode="after")
    def _predicted(self) -> Self:
        for name in ("predict_time", "assume_bandwidth"):
            if not self.predict and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"--{name.replace('_', '-')} means nothing without --predict")
        return self


class MigrationConfig(TransferConfig, GuestConfig):
    """Every option of a migration."""

    count_writes: Annotated[
        bool,
        Field(description="report each page's writes, and those the cache absorbed (slower guest)"),
    ] = False
    warmup: Annotated[
        Duration,
        Field(ge=0, le=86400, description="TIME the guest runs before the migration starts"),
    ] = 1.0
    run_after: Annotated[
        Duration,
        Field(ge=0, le=86400, description="TIME the guest runs at the destination afterwards"),
    ] = 1.0
    verify: Annotated[
        bool, Field(description="replay the guest at the source and compare digests")
    ] = True
    vcpu_nice: Annotated[
        int,
        Field(
            ge=0,
            le=19,
            description="niceness of vCPU threads: the stream goes first, guests may starve",
        ),
    ] = 0

    @field_validator("workload")
    @classmethod
    def _known_workload(cls, text: str) -> str:
        """What is typed is answered here, before a guest is made: that takes seconds.

        Not for `GuestConfig`: a destination that gets one says itself what it does not know.
        """
        try:
            choose(text)
        except WorkloadError as error:
            raise ValueError(str(error)) from None
        return text

    @model_validator(mode="after")
    def _one_way_to_slow_down(self) -> Self:
        if self.auto_converge and self.dirty_limit is not None:
            raise ValueError("--auto-converge and --dirty-limit exclude one another")
        return self

    @model_validator(mode="after")
    def _workload_fits(self) -> Self:
        for name, value in choose(self.workload).options.items():
            if isinstance(value, Extent) and (value.size or 0) > self.memory:
                raise ValueError(
                    f"--workload: {name}={value} does not fit in the guest: expected at most"
                    f" {format_size(self.memory)}, its memory"
                )
        return self

    @property
    def travels_by_line(self) -> bool:
        """Whether pages may travel as lines: it is the cache that knows which have changed.

        The kernel knows of pages only.
        """
        return self.granularity == "line" and self.cache > 0 and self.dirty_tracker == "log"

    @property
    def delta_memory(self) -> int:
        """Bytes that the cache of pages for deltas may take; 0 without deltas."""
        return 0 if self.delta == "none" else min(self.delta_cache, self.memory)

    @property
    def may_switch(self) -> bool:
        """Whether the guest may come to run at the destination with pages missing."""
        if self.timeout is not None and self.timeout_action == "post-copy":
            return True
        if self.strategy == "three-path":
            return self.path3 == "post-copy"
        return self.strategy in ("post-copy", "lazy-copy", "hybrid")

    @property
    def begins_with_all(self) -> bool:
        """Whether the first thing that goes is all of the guest's memory."""
        return self.strategy not in ("post-copy", "lazy-copy")

    @property
    def guest(self) -> GuestConfig:
        """The part that both agents must agree on."""
        return GuestConfig(**{name: getattr(self, name) for name in GuestConfig.model_fields})

    def flags(self) -> list[str]:
        """The command-line options that give this configuration again, defaults left out."""
        out: list[str] = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value == field.default:
                continue
            flag = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                out.append(flag if value else flag.replace("--", "--no-", 1))
            elif isinstance(value, tuple):
                out += [word for each in value for word in (flag, each)]
            else:
                out += [flag, _format(field.metadata, value)]
        return out


def _format(metadata: list[Any], value: Any) -> str:
    """As the field's own parser reads it."""
    for item in metadata:
        if isinstance(item, Parameter) and callable(item.show_default):
            return str(item.show_default(value))
    return str(value)


def shown(name: str, value: Any, model: type[BaseModel] = MigrationConfig) -> str:
    """The value of an option as a person would write it. Raises what its formatter does."""
    return _format(model.model_fields[name].metadata, value)


def first_fault(error: ValidationError) -> tuple[ErrorDetails, str]:
    """The first thing that is wrong, and what is to be said of it."""
    first = error.errors(include_url=False)[0]
    return first, complaint(first)


def explain(error: ValidationError) -> str:
    """A pydantic error as one line in the user's terms: the option, and what was expected."""
    first, message = first_fault(error)
    option = str(first.get("ctx", {}).get("option", ""))
    if not option:
        option = "".join(f"--{part}" for part in first["loc"][:1] if isinstance(part, str))
    return f"{option.replace('_', '-')}: {message}" if option else message


_LONGEST_HOST = 253  # of a name in DNS


# As QEMU, libvirt and browsers write where to go; what is no IPv6 address (`fd:` could be one).
_SCHEME: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://"
    r"|(tcp[46]?|udp|tls|ssl|unix|rdma|exec|file|vsock|ssh|https?|socket|pageferry|qemu):(?=.*:|.*/)",
    re.IGNORECASE,
)


def parse_address(text: str, option: str) -> tuple[str, int]:
    """`HOST:PORT` or `[v6]:PORT`. Raises `UsageError`.

    option: whose value it is; only with `--listen` is port 0 one, which stands for a free one.
    """
    shown = f"{option}: {_quoted(text)}"
    if scheme := _SCHEME.match(text):
        raise UsageError(
            f"{shown} is not an address: expected HOST:PORT without {scheme[0]!r}, as in"
            " 127.0.0.1:4444"
        )
    host, _, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    least = 0 if option == "--listen" else 1
    if not (host and len(port_text) <= 5 and port_text.isascii() and port_text.isdigit()) or not (
        least <= int(port_text) <= 65535
    ):
        raise UsageError(
            f"{shown} is not an address: expected HOST:PORT, PORT from {least} to 65535, as in"
            " 127.0.0.1:4444"
        )
    _check_host(host, shown, bracketed=bracketed)
    if ":" in host and not bracketed:
        raise UsageError(
            f"{shown} can be read in two ways: write [{host}]:{port_text} where {port_text} is"
            f" the port, or [{text}]:4444 where it is a part of the address"
        )
    return host, int(port_text)


def _quoted(text: str) -> str:
    return repr(text) if len(text) <= 80 else f"{text[:40]!r}... ({len(text)} characters)"


def _check_host(host: str, shown: str, *, bracketed: bool) -> None:
    if len(host) > _LONGEST_HOST:
        raise UsageError(
            f"{shown} is not an address: expected a HOST of at most {_LONGEST_HOST} characters"
        )
    try:
        host.encode("idna")  # as the resolver will
        named = bool(host) and host.isprintable() and not set(host) & set(" /@,;")
    except UnicodeError:
        named = False
    if not named:
        raise UsageError(f"{shown} is not an address: expected the name of a host as HOST")
    if bracketed or ":" in host:
        try:
            address = ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise UsageError(f"{shown} is not an address: write IPv6 as [::1]:4444") from None
        if address.is_link_local and "%" not in host:
            raise UsageError(
                f"{shown} is not an address: a link-local one needs its interface, as in"
                f" [{host}%eth0]:4444"
            )
