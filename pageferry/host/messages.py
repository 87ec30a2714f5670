"""What `pageferry move` and its like say to a host: one JSON object a line, on a Unix socket.

    one command a connection     ── request ──────────────────────────>
                                 <────────────────────── its answer ──    or failed(reason)
    a move                       ── move ─────────────────────────────>
                                 <──────────────── status, status … ──
    it is to be given up         ── cancel ───────────────────────────>    as hanging up does
                                 <─────────────────── moved(report) ──    with what it ended with

Lines are bounded, a field that is not known is refused.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pageferry.common.config.guest import GuestConfig
from pageferry.common.config.transfer import TransferConfig
from pageferry.common.errors import RemoteProtocolError
from pageferry.common.process.status import Status
from pageferry.common.report.schema import Report
from pageferry.common.wire.messages import GuestName

MAX_REQUEST: Final = 64 * 1024
MAX_REPLY: Final = 256 * 2**20  # a report with every fault of a large guest

Seconds = Annotated[float, Field(ge=0, le=86400)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class List(_Message):
    """Which guests are here?"""

    kind: Literal["list"] = "list"


class Boot(_Message):
    """Boot a guest and run it. name: None: the host finds one."""

    kind: Literal["boot"] = "boot"
    config: GuestConfig
    name: GuestName | None = None


class Move(_Message):
    """Send a guest to another host. warmup, run_after: how long it is watched before and after."""

    kind: Literal["move"] = "move"
    to: str = Field(max_length=300)
    guest: GuestName | None = None
    transfer: TransferConfig = TransferConfig()
    warmup: Seconds = 0.0
    run_after: Seconds = 0.0
    tls_hostname: str | None = Field(default=None, max_length=300)


class Cancel(_Message):
    """Give up the move that was asked for on this connection."""

    kind: Literal["cancel"] = "cancel"


class Digest(_Message):
    """Pause a guest for as long as it takes to digest it."""

    kind: Literal["digest"] = "digest"
    guest: GuestName | None = None


class Resume(_Message):
    """Find out about a guest in doubt, and let it go on where that is right.

    force: the user has seen that nobody else runs it. timeout: how long the other host is asked.
    """

    kind: Literal["resume"] = "resume"
    guest: GuestName | None = None
    force: bool = False
    timeout: float = Field(default=5.0, gt=0, le=3600)


class Shutdown(_Message):
    """End a guest for good."""

    kind: Literal["shutdown"] = "shutdown"
    guest: GuestName | None = None


class GuestInfo(BaseModel):
    """One guest of a host. here_s: for how long it has been here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    state: str
    memory: int | None
    vcpus: int | None
    workload: str | None
    steps: int | None
    here_s: float
    note: str


class Listed(_Message):
    """The guests that are here. incoming: sessions of sources that have not ended yet.

    host, port: where this host listens for guests.
    """

    kind: Literal["listed"] = "listed"
    host: str
    port: int
    guests: list[GuestInfo]
    incoming: int


class Booted(_Message):
    """The guest that runs now."""

    kind: Literal["booted"] = "booted"
    guest: GuestInfo


class Progress(_Message):
    """A moment of a move."""

    kind: Literal["status"] = "status"
    status: Status


class Moved(_Message):
    """How a move ended. error: in one line; the guest is where `report.guest.runs_at` says."""

    kind: Literal["moved"] = "moved"
    report: Report
    error: str | None
    exit_code: int


class Digested(_Message):
    """A guest at this moment: what a fresh one of `config`, run to `steps`, must be, too.

    check: what the workload's own check of memory found, null for nothing.
    """

    kind: Literal["digested"] = "digested"
    name: str
    config: GuestConfig
    steps: list[int]
    digest: str
    check: str | None
    paused_ms: float


class Done(_Message):
    """It was done; in one line, what that was."""

    kind: Literal["done"] = "done"
    said: str


class Failed(_Message):
    """It was not done, and why, in one line."""

    kind: Literal["failed"] = "failed"
    reason: str
    exit_code: int


Request = Annotated[
    List | Boot | Move | Cancel | Digest | Resume | Shutdown, Field(discriminator="kind")
]
Reply = Annotated[
    Listed | Booted | Progress | Moved | Digested | Done | Failed, Field(discriminator="kind")
]
REQUESTS: Final[TypeAdapter[Any]] = TypeAdapter(Request)
REPLIES: Final[TypeAdapter[Any]] = TypeAdapter(Reply)

_M = TypeVar("_M", bound=BaseModel)


def encode(message: BaseModel) -> bytes:
    """One line. A rate without a limit is `Infinity`, which JSON proper does not know."""
    return json.dumps(message.model_dump(), separators=(",", ":")).encode() + b"\n"


def decode(line: bytes, kinds: TypeAdapter[Any]) -> Any:
    """A message of these kinds. Raises `RemoteProtocolError` for anything else."""
    try:
        return kinds.validate_python(json.loads(line))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its start"
        raise RemoteProtocolError(f"malformed message at {where}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"a message that is not JSON: {error}") from None
