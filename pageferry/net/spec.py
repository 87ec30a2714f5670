"""What a network's keeper is told to make, and what is remembered of a network that is up.

Both are JSON: the first goes through a pipe, the other is in a file for `show` and `down`.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ValidationError

from pageferry.common.errors import PageferryError
from pageferry.net.measure import LinkMeasurement
from pageferry.net.options import Offloads, Shaper
from pageferry.net.schedule import Moment
from pageferry.net.shape import MODEL, Shape

STATES: Final = Path("/run/pageferry")
_START_TIME: Final = 19  # of the fields after the name in /proc/PID/stat: when it began


class LinkSpec(BaseModel):
    """A link to be made: between two namespaces, or a relay on loopback."""

    model_config = MODEL

    kind: Literal["namespaces", "relay"]
    name: str
    shape: Shape
    moments: list[Moment] = []
    shaper: Shaper = "auto"
    offloads: Offloads = "auto"


class NetworkState(BaseModel):
    """A network that is up.

    Attributes:
        spec: What it was asked to be.
        shaper: What shapes it: `tc` or `tun`.
        notice: What the user must know about the choice of the shaper, or None.
        pid: The process that keeps it.
        began: When that process began, so that no other process with its PID can pass for it.
        measured: What it was measured to carry; None where it was not.
    """

    model_config = MODEL

    spec: LinkSpec
    shaper: str
    notice: str | None
    pid: int
    began: int
    measured: LinkMeasurement | None = None

    @property
    def alive(self) -> bool:
        """Whether the keeper still runs."""
        return began(self.pid) == self.began

    def save(self) -> None:
        """Write the state's file, whole or not at all.

        Raises:
            PageferryError: It can't be written.
        """
        path = state_path(self.spec.name)
        beside = path.with_suffix(".new")
        try:
            STATES.mkdir(mode=0o755, exist_ok=True)
            beside.write_text(self.model_dump_json(indent=2))
            beside.rename(path)
        except OSError as error:
            raise PageferryError(f"can't write {path}: {error.strerror}") from None


def state_path(name: str) -> Path:
    """Build the path of a network's state.

    Args:
        name: Name of the network.

    Returns:
        The path; there need not be a file.
    """
    return STATES / f"net-{name}.json"


def load_state(name: str) -> NetworkState | None:
    """Read what is remembered of a network.

    Args:
        name: Name of the network.

    Returns:
        Its state; None where there is none, or none that can be read.
    """
    with contextlib.suppress(OSError, ValidationError):
        return NetworkState.model_validate_json(state_path(name).read_text())
    return None


def forget(name: str) -> None:
    """Remove the state of a network, if it has one.

    Args:
        name: Name of the network.
    """
    with contextlib.suppress(OSError):
        state_path(name).unlink()


def remembered() -> list[str]:
    """List all networks that have a state.

    Returns:
        Their names, sorted.
    """
    with contextlib.suppress(OSError):
        files = [path.stem for path in STATES.iterdir() if path.suffix == ".json"]
        return sorted(stem[4:] for stem in files if stem.startswith("net-"))
    return []


def began(pid: int) -> int | None:
    """Read when a process began.

    Args:
        pid: The process.

    Returns:
        Clock ticks since the boot; None where there is no such process, or only a zombie.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[_START_TIME])


def own_beginning() -> tuple[int, int]:
    """Tell this process from any other.

    Returns:
        Its PID, and when it began, in clock ticks since the boot.
    """
    pid = os.getpid()
    return pid, began(pid) or 0
