"""What a cell may be given: a migration's options, and those of the link that it has to itself.

A plan writes them as the flags do: `net`, `link`, `schedule`, `shaper`, `offloads`. A part of `net`
also has a name of its own (`net.delay`), so that it can be an axis. `MigrateCell` is for a real
network, `SimulateCell` for a calculated one; both have these fields, so that either can run the
same plan. What they refuse is refused before anything has run. Texts are kept in one normal form,
so that a cell's identity does not depend on how they were written.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any, Final, Self, get_args

from pydantic import (
    AfterValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pageferry.common.command_line.complaints import complaint_of
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import UsageError
from pageferry.common.units import format_size, format_time
from pageferry.net.measure import HEADERS
from pageferry.net.options import LinkKind, NetOptions, Offloads, Shaper
from pageferry.net.schedule import parse_schedule
from pageferry.net.shape import NAMES, TEXTS, Direction, Shape, parse_shape
from pageferry.sim.link import SimulatedLink, parse_link
from pageferry.sim.options import REFUSED, GuestSpeed, why_refused

KINDS: Final = get_args(LinkKind)
_SIMULATED: Final = ("rate", "delay", "loss")
_LIKELY_BPS: Final = 1e9  # of loopback without a limit, for the estimate of a duration only
_STARTING_S: Final = 2.0  # two agents, their libraries and kernels
_NETWORK_S: Final = 2.0  # made, measured, removed
_SIMULATING_S: Final = 0.02
_TEXTS: Final = TEXTS | {"mss": format_size, "window": format_size}


def _complain(error: UsageError) -> ValueError:
    """Write a complaint with the plan's names, without a flag's dashes."""
    return ValueError(str(error).replace("--", ""))


@lru_cache(maxsize=1024)
def _shape(text: str) -> Shape:
    """Parse `--net`. Raises `UsageError`."""
    return parse_shape(text)


def _net_text(text: str | None) -> str | None:
    """Normalise `--net`: leave out defaults, and the way back where it is alike."""
    if text is None:
        return None
    try:
        shape = _shape(text)
    except UsageError as error:
        raise ValueError(str(error).removeprefix("--net: ")) from None
    there, back = shape.forward.model_dump(), shape.back.model_dump()
    parts = [_written(shape.forward)] if shape.forward != Direction() else []
    parts += [f"{n}-back={TEXTS[n](back[n])}" for n in NAMES if back[n] != there[n]]
    return ",".join(parts) or "rate=unlimited"


def _schedule_text(text: str) -> str:
    try:
        steps = parse_schedule([text])
    except UsageError as error:
        raise ValueError(str(error).removeprefix("--schedule: ")) from None
    return "; ".join(
        f"at {format_time(step.at_s)} {' '.join(step.words.split())}" for step in steps
    )


def _kind(text: str | None) -> str | None:
    if text not in (None, *KINDS):
        raise ValueError(f"{text!r}: expected {' or '.join(KINDS)}")
    return text


def _link_text(text: str | None) -> str | None:
    if text is None or text in KINDS:
        return text
    try:
        link = parse_link(text)
    except UsageError as error:
        raise ValueError(str(error).removeprefix("--link: ")) from None
    return _written(link) or "rate=unlimited"


def _written(link: SimulatedLink | Direction) -> str:
    """Write a link as options would, leaving out what has its default."""
    values = link.model_dump(exclude_defaults=True)
    return ",".join(f"{name}={_TEXTS[name](value)}" for name, value in values.items())


def net_value(key: str, text: str) -> Any:
    """Parse a part of `net` alone.

    Args:
        key: One of `shape.KEYS`.
        text: Its value, as `--net` takes it.

    Returns:
        Bytes/s, seconds, or a share.

    Raises:
        ValueError: It can't be read, or is out of range.
    """
    field = Direction.model_fields[key.removesuffix("-back")]
    try:
        return TypeAdapter(field.rebuild_annotation()).validate_python(text)
    except ValidationError as error:
        raise ValueError(complaint_of(error, field)) from None


# Options of a migration that results of 0.2 had not.
_LATER: Final = ("path2_stop", "hold_write_backs", "line_tracker")


class CellOptions(MigrationConfig):
    """The options of any cell.

    Attributes:
        net: As in `--net`, in normal form; None: no link is shaped.
        link: The kind of the link, or what a simulated one is like; None is the default.
        shaper: As in `--shaper`.
        offloads: As in `--offloads`.
        schedule: One text, its parts between semicolons; empty: nothing changes.
    """

    net: Annotated[str | None, AfterValidator(_net_text)] = None
    link: str | None = None
    shaper: Shaper = "auto"
    offloads: Offloads = "auto"
    schedule: Annotated[str, AfterValidator(_schedule_text)] = ""

    @property
    def migration(self) -> MigrationConfig:
        """The options that agents, or a simulation, know of."""
        return MigrationConfig(
            **{name: getattr(self, name) for name in MigrationConfig.model_fields}
        )

    def net_values(self) -> dict[str, float | None]:
        """Return what the link was asked to be.

        Returns:
            Bytes/s, seconds and shares by `shape.KEYS`; empty where it has no link of its own.
        """
        if self.net is None:
            return {}
        shape = _shape(self.net)
        back = {f"{name}-back": value for name, value in shape.back.model_dump().items()}
        return shape.forward.model_dump() | back

    @property
    def least_s(self) -> float:
        """Calculated lower bound of the cell's duration, in seconds."""
        raise NotImplementedError

    def known_by(self) -> dict[str, Any]:
        """Return what determines the cell.

        Options of the link that have their defaults are left out, and so are those of a migration
        that came later: such a cell keeps the identity that it had before there were such options.

        Returns:
            Values by the names of fields.
        """
        options = self.model_dump()
        for name, field in type(self).model_fields.items():
            later = name not in MigrationConfig.model_fields or name in _LATER
            if later and options[name] == field.default:
                del options[name]
        if self.net is not None:
            options.setdefault("link", KINDS[0])
        return options


class MigrateCell(CellOptions):
    """The options of a real migration, as `pageferry migrate` has them.

    Attributes:
        link: `namespaces` or `relay`; None is `namespaces` where there is a `net`.
    """

    link: Annotated[str | None, AfterValidator(_kind)] = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        try:
            self.network.asked()
        except UsageError as error:
            raise _complain(error) from None
        return self

    @property
    def network(self) -> NetOptions:
        """The network, as the flags would ask for it."""
        given = {name: getattr(self, name) for name in ("net", "link", "shaper", "offloads")}
        schedule = (self.schedule,) if self.schedule else ()
        return NetOptions.model_validate(given | {"schedule": schedule})

    @property
    def least_s(self) -> float:
        """Seconds for start-up, its waits, and each page once at the rate (up to `timeout`)."""
        rate = self.net_values().get("rate") or math.inf
        sending_s = self.memory / min(self.max_bandwidth, rate, _LIKELY_BPS)
        if self.timeout is not None:
            sending_s = min(sending_s, self.timeout)
        network_s = 0.0 if self.net is None and self.link is None else _NETWORK_S
        return _STARTING_S + network_s + self.warmup + sending_s + self.run_after


class SimulateCell(CellOptions):
    """The options of a simulated migration, as `pageferry simulate` has them.

    `net` may describe its link, too.

    Attributes:
        link: As `--link` of `simulate`, or the kind of a real link, which a simulation ignores,
            except that a relay's rate does not count headers.
        guest_speed: Steps a second of a vCPU that runs flat out; None: as its workload has it.
    """

    link: Annotated[str | None, AfterValidator(_link_text)] = None
    guest_speed: GuestSpeed | None = None

    @field_validator(*REFUSED)
    @classmethod
    def _modelled(cls, value: Any, info: ValidationInfo) -> Any:
        why = why_refused(str(info.field_name), value)
        if why is not None:
            raise ValueError(why)
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.schedule:
            raise ValueError("schedule: a simulated link stays as it is")
        if self.net is not None:
            if self.link is not None and self.link not in KINDS:
                raise ValueError("link: the plan has a net already: expected one of the two")
            for key, value in self.net_values().items():
                self._check_part(key, value)
        carried = self.simulated_link.carries(self.congestion)
        if math.isinf(min(self.max_bandwidth, carried)):
            raise ValueError("nothing limits the link: expected max-bandwidth, or net.rate")
        return self

    def _check_part(self, key: str, value: float | None) -> None:
        name = key.removesuffix("-back")
        if name == key and name not in _SIMULATED and value:
            raise ValueError(f"net.{key}: a simulated link has {', '.join(_SIMULATED)} only")
        if name != key and value != self.net_values()[name]:
            raise ValueError(f"net.{key}: a simulated link is the same both ways")

    @property
    def simulated_link(self) -> SimulatedLink:
        """The link that `net` or `link` asks for.

        The rate of packets counts headers, which a simulation does not have; that of a relay does
        not.
        """
        if self.net is None:
            return SimulatedLink() if self.link in (None, *KINDS) else parse_link(str(self.link))
        values = {name: self.net_values()[name] for name in _SIMULATED}
        link = SimulatedLink.model_validate(values)
        if self.link == "relay":  # it paces bytes of connections
            return link
        return link.model_copy(update={"rate": link.rate * link.mss / (link.mss + HEADERS)})

    @property
    def about_link(self) -> str | None:
        """The link as text, for the report; None where all has its default."""
        return _written(self.simulated_link) or None

    def net_values(self) -> dict[str, float | None]:
        """Return what the link was asked to be, whichever option has said it.

        Returns:
            As in `CellOptions`; the same both ways.
        """
        if self.net is not None or self.link in (None, *KINDS):
            return super().net_values()
        link = parse_link(str(self.link))
        ways = {name: getattr(link, name) for name in _SIMULATED}
        return ways | {f"{name}-back": value for name, value in ways.items()}

    @property
    def least_s(self) -> float:
        """Seconds of a simulation, however large the guest is."""
        return _SIMULATING_S
