"""What a simulation is asked for beside a migration's options, and what it may not have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter
from pydantic import ConfigDict, Field

from pageferry.common.command_line.options import Options
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import UsageError

_NEVER: Final = {
    "inject": "a simulation has no connections to break",
    "timeout": "a simulated round cannot be cut short",
    "predict": "a simulation says nothing else",
}
_NOT_MODELLED: Final = {"compress": "none", "delta": "none"}
REFUSED: Final = (*_NEVER, *_NOT_MODELLED)  # options of a migration that a simulation may not have

GuestSpeed = Annotated[float, Field(ge=1, le=1e12)]


class SimulationOptions(Options):
    """What a simulation is made of, beside a migration's options."""

    model_config = ConfigDict(allow_inf_nan=False)

    link: Annotated[
        str,
        Field(
            description="rate=RATE,delay=TIME (one way; or rtt=TIME),loss=SHARE,mss=SIZE,"
            "window=SIZE"
        ),
    ] = ""
    guest_speed: Annotated[
        GuestSpeed | None,
        Field(
            description="steps a second of a vCPU that runs flat out; none: 100e6 in order, 10e6"
            " at random"
        ),
    ] = None
    from_file: Annotated[
        Path | None,
        Parameter(name="--from"),
        Field(description="re-run the migration of this REPORT.json, and say how far off it is"),
    ] = None
    evacuate: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None,
        Field(description="plan the evacuation of N guests of a host over one uplink"),
    ] = None
    fleet: Annotated[
        Path | None,
        Field(description="the guests of --evacuate, as a TOML file describes them"),
    ] = None


def why_refused(name: str, value: Any) -> str | None:
    """Say why a simulation can't have a value of an option.

    Args:
        name: One of `REFUSED`.
        value: Its value.

    Returns:
        The reason, as the end of a message; None where it can.
    """
    if name in _NEVER:
        return _NEVER[name] if value else None
    return None if value == _NOT_MODELLED[name] else "how pages shrink is measured, not modelled"


def refuse(config: MigrationConfig) -> None:
    """Refuse options of a migration that a simulation can't have.

    Args:
        config: The options.

    Raises:
        UsageError: One of `REFUSED` has a value that is not possible here.
    """
    for name in REFUSED:
        why = why_refused(name, getattr(config, name))
        if why is not None:
            raise UsageError(f"--{name}: {why}")


def about_of(options: SimulationOptions) -> dict[str, Any]:
    """Describe link and guest for the report's `config`.

    Args:
        options: What the simulation was made of; only `link` and `guest_speed` are looked at.

    Returns:
        `link` as it was written, None for none; `guest_speed` in steps/s, None for the default.
    """
    return {"link": options.link or None, "guest_speed": options.guest_speed}
