"""What `pageferry move` and its like say to a host: one JSON object a line, on a Unix socket.

    one command a connection     ── request ──────────────────────────>
                                 <────────────────────── its answer ──    or failed(reason)
    a move                       ── move ─────────────────────────────>
                                 <──────────────── status, status … ──
    to give it up                ── cancel ───────────────────────────>    as hanging up does
                                 <─────────────────── moved(report) ──    with what it ended with

Lines are bounded; an unknown field is refused.
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

WatchSeconds = Annotated[float, Field(ge=0, le=86400)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class List(_Message):
    """Which guests are here?"""

    kind: Literal["list"] = "list"


class Boot(_Message):
    """Boot a guest and run it.

    Attributes:
        config: The guest's.
        name: None lets the host find one.
    """

    kind: Literal["boot"] = "boot"
    config: GuestConfig
    name: GuestName | None = None


class MoveGuest(_Message):
    """Send a guest to another host.

    Attributes:
        to: HOST:PORT of the other host.
        guest: Its name; None for the only one.
        transfer: How it travels.
        warmup: Seconds for which the guest is watched before.
        run_after: Seconds for which it is watched afterwards.
        tls_hostname: Name that the other host's certificate must have; None for the HOST of `to`.
    """

    kind: Literal["move"] = "move"
    to: str = Field(max_length=300)
    guest: GuestName | None = None
    transfer: TransferConfig = TransferConfig()
    warmup: WatchSeconds = 0.0
    run_after: WatchSeconds = 0.0
    tls_hostname: str | None = Field(default=None, max_length=300)


class CancelMove(_Message):
    """Give up the move that was asked for on this connection."""

    kind: Literal["cancel"] = "cancel"


class Digest(_Message):
    """Pause a guest for as long as it takes to digest it.

    Attributes:
        guest: Its name; None for the only one.
    """

    kind: Literal["digest"] = "digest"
    guest: GuestName | None = None


class Resume(_Message):
    """Find out about a guest in doubt, and let it go on if that is right.

    Attributes:
        guest: Its name; None for the only one.
        force: Whether the user has seen that nobody else runs it.
        timeout: Seconds for which the other host is asked.
    """

    kind: Literal["resume"] = "resume"
    guest: GuestName | None = None
    force: bool = False
    timeout: float = Field(default=5.0, gt=0, le=3600)


class Shutdown(_Message):
    """End a guest for good.

    Attributes:
        guest: Its name; None for the only one.
    """

    kind: Literal["shutdown"] = "shutdown"
    guest: GuestName | None = None


class GuestInfo(BaseModel):
    """One guest of a host.

    Attributes:
        name: Unique at its host.
        state: A value of `guest_table.Doing`.
        memory: Bytes; this and the next three are None until the guest is here.
        vcpus: How many.
        workload: As text.
        steps: Of all vCPUs together.
        here_s: Seconds for which it has been here.
        note: What a person should know; empty for nothing.
    """

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
    """The guests that are here.

    Attributes:
        host: Where this host listens for guests.
        port: Likewise.
        guests: Oldest first.
        incoming: Sessions of sources that have not ended yet.
    """

    kind: Literal["listed"] = "listed"
    host: str
    port: int
    guests: list[GuestInfo]
    incoming: int


class Booted(_Message):
    """The guest that runs now.

    Attributes:
        guest: As it was found just after its boot.
    """

    kind: Literal["booted"] = "booted"
    guest: GuestInfo


class MoveProgress(_Message):
    """A moment of a move.

    Attributes:
        status: The source session's.
    """

    kind: Literal["status"] = "status"
    status: Status


class Moved(_Message):
    """How a move ended.

    Attributes:
        report: The guest is where its `guest.runs_at` says.
        error: In one line; None if all is well.
        exit_code: Of the command that asked.
    """

    kind: Literal["moved"] = "moved"
    report: Report
    error: str | None
    exit_code: int


class Digested(_Message):
    """A guest at this moment; a fresh one of `config`, run to `steps`, must be the same.

    Attributes:
        name: The guest's.
        config: As it was booted, here or elsewhere.
        steps: Of each vCPU.
        digest: Of memory and registers, hexadecimal.
        check: What the workload's own check of memory found; null for nothing.
        paused_ms: How long the guest stood still for this.
    """

    kind: Literal["digested"] = "digested"
    name: str
    config: GuestConfig
    steps: list[int]
    digest: str
    check: str | None
    paused_ms: float


class Done(_Message):
    """It was done.

    Attributes:
        said: What that was, in one line.
    """

    kind: Literal["done"] = "done"
    said: str


class RequestFailed(_Message):
    """It was not done.

    Attributes:
        reason: Why, in one line.
        exit_code: Of the command that asked.
    """

    kind: Literal["failed"] = "failed"
    reason: str
    exit_code: int


Request = Annotated[
    List | Boot | MoveGuest | CancelMove | Digest | Resume | Shutdown, Field(discriminator="kind")
]
Reply = Annotated[
    Listed | Booted | MoveProgress | Moved | Digested | Done | RequestFailed,
    Field(discriminator="kind"),
]
REQUESTS: Final[TypeAdapter[Any]] = TypeAdapter(Request)
REPLIES: Final[TypeAdapter[Any]] = TypeAdapter(Reply)

_M = TypeVar("_M", bound=BaseModel)


def encode_line(message: BaseModel) -> bytes:
    """Make a message's line.

    A rate without a limit is `Infinity`, which JSON proper does not know.

    Args:
        message: A request or a reply.

    Returns:
        ASCII with a line end.
    """
    return json.dumps(message.model_dump(), separators=(",", ":")).encode() + b"\n"


def decode_line(line: bytes, kinds: TypeAdapter[Any]) -> Any:
    """Read a message.

    Args:
        line: As it came, with or without its line end.
        kinds: `REQUESTS` or `REPLIES`: what may come.

    Returns:
        One of these messages.

    Raises:
        RemoteProtocolError: It is none of them.
    """
    try:
        return kinds.validate_python(json.loads(line))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its start"
        raise RemoteProtocolError(f"malformed message at {where}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"a message that is not JSON: {error}") from None
