"""What a network's keeper is told to make, and what is remembered of a network that is up.

JSON both: the first goes through a pipe, the other lies in a file for `show` and `down`.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ValidationError

from pageferry.common.errors import PageferryError
from pageferry.net.measure import Measured
from pageferry.net.options import Offloads, Shaper
from pageferry.net.schedule import Moment
from pageferry.net.shape import MODEL, Shape

STATES: Final = Path("/run/pageferry")
_START_TIME: Final = 19  # of the fields of /proc/PID/stat behind the name: when it began


class LinkSpec(BaseModel):
    """A link to be made: between two namespaces, or a relay on loopback."""

    model_config = MODEL

    kind: Literal["namespaces", "relay"]
    name: str
    shape: Shape
    moments: list[Moment] = []
    shaper: Shaper = "auto"
    offloads: Offloads = "auto"


class State(BaseModel):
    """A network that is up. pid, began: the process that keeps it, which no other can pass for."""

    model_config = MODEL

    spec: LinkSpec
    shaper: str
    notice: str | None
    pid: int
    began: int
    measured: Measured | None = None

    @property
    def alive(self) -> bool:
        """Whether the keeper still runs."""
        return began(self.pid) == self.began

    def save(self) -> None:
        """Whole or not at all. Raises `PageferryError`."""
        path = state_path(self.spec.name)
        beside = path.with_suffix(".new")
        try:
            STATES.mkdir(mode=0o755, exist_ok=True)
            beside.write_text(self.model_dump_json(indent=2))
            beside.rename(path)
        except OSError as error:
            raise PageferryError(f"can't write {path}: {error.strerror}") from None


def state_path(name: str) -> Path:
    """Where the state of that network lies."""
    return STATES / f"net-{name}.json"


def load_state(name: str) -> State | None:
    """What is remembered of it; None: nothing, or nothing that could be read."""
    with contextlib.suppress(OSError, ValidationError):
        return State.model_validate_json(state_path(name).read_text())
    return None


def forget(name: str) -> None:
    """Remove its state."""
    with contextlib.suppress(OSError):
        state_path(name).unlink()


def remembered() -> list[str]:
    """Names of all networks with a state."""
    with contextlib.suppress(OSError):
        files = [path.stem for path in STATES.iterdir() if path.suffix == ".json"]
        return sorted(stem[4:] for stem in files if stem.startswith("net-"))
    return []


def began(pid: int) -> int | None:
    """When that process began, in clock ticks since the boot; None: there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[_START_TIME])


def own_beginning() -> tuple[int, int]:
    """(pid, when it began) of this process."""
    pid = os.getpid()
    return pid, began(pid) or 0
