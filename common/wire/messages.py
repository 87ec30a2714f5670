"""The control messages, and the one place where msgpack and pydantic meet.

A migration, source left, destination right; bulk connections carry page frames and barriers only:

    connect  ── preface, Hello(control, token) ──────>
             <─────────────────── preface, Welcome ──     or Refuse(reason)
             ── Ping … ──────────────────────────────>    clock samples
             <───────────────────────────── Pong … ──
             ── Setup(guest, …) ─────────────────────>    what will come
             <────────────────────────────── Ready ──     or Refuse(reason)
    connect  ── preface, Hello(bulk, token) ─────────>    a connection a channel
    round n  ══ pages, zeros, barrier(n) ════════════>    on every bulk channel
             <─────────────────────── RoundDone(n) ──
    stop     ══ last pages, barrier(last) ═══════════>
             ── Commit(snapshot, last) ──────────────>    now the source never resumes by itself
             <──────────────────────────── Resumed ──
             ── Ping … / Pong … ─────────────────────     clock samples
             <─────────────────────────── Finished ──     digest, events, timeline
             ── Bye ─────────────────────────────────>

    Before the commit either side may end it:  Cancel(reason) ──>   <── Failed(reason)
    Post-copy: the commit names the missing pages, an urgent connection carries requests for them
    and answers, bulk connections push:

    stop      ── Commit(snapshot, missing) ──────────>
              <─────────────────────────── Resumed ──
    urgent    <═════════════════ request(page, window)
              ══ page; its neighbours ═══════════════>
    bulk      ══ all that is missing ════════════════>
              <────────────────────────── Complete ──    then Finished, as above
    lost      connections break: the guest waits on its faults; the source comes back
    connect   ── preface, Hello(recover, session) ───>
              <────────── Welcome, Resync(missing) ──    then bulk and urgent connections again

    After a commit whose answer was lost, over a new connection:

    connect  ── preface, Hello(query, session) ──────>
             <──────────── preface, CommitOutcome ──     running | never | unknown
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import msgpack
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from pageferry.common.command_line.field_spec import Words
from pageferry.common.config.fields import Compression
from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import LocalProtocolError, RemoteProtocolError
from pageferry.common.wire import bounds
from pageferry.common.wire.bitmap import MOST_SUMMARY
from pageferry.common.wire.frames import MAX_CONTROL, MAX_WINDOW
from pageferry.common.wire.probes import MAX_ATTEMPT
from pageferry.common.wire.results import (
    MOST_VCPUS,
    Bounded,
    Count,
    Nanoseconds,
    PeerText,
    Seconds,
    Steps,
    WireBeats,
    WireCache,
    WireEvent,
    WirePostcopy,
    WireSample,
    in_order,
)

SESSION_ID_LENGTH = 32  # hex digits; 128 random bits, so that nobody guesses one
TOKEN_LENGTH = 64

SessionId = Annotated[str, Field(pattern=f"^[0-9a-f]{{{SESSION_ID_LENGTH}}}$")]
GuestName = Annotated[
    str,
    Words(
        "a name of at most 64 small letters, digits, dots, hyphens and underscores that begins with"
        " a letter or a digit"
    ),
    Field(pattern="^[a-z0-9][a-z0-9._-]{0,63}$"),
]
Token = Annotated[str, Field(pattern=f"^[0-9a-f]{{{TOKEN_LENGTH}}}$", repr=False)]


Attempt = Annotated[int, Field(ge=0, le=MAX_ATTEMPT)]


class _Message(Bounded):
    """Base of all messages, each of which has its own `kind`."""


class Hello(_Message):
    """First message of every connection: what it is for.

    Attributes:
        token: The session's secret. The control connection sets it, all others must bring the same.
        attempt: Which of the session's attempts this connection belongs to, see
            `common.wire.probes`.
    """

    kind: Literal["hello"] = "hello"
    role: Literal["control", "bulk", "urgent", "query", "recover"]
    session: SessionId
    token: Token
    channel: int = Field(default=0, ge=0, le=63)
    attempt: Attempt = 0


class Welcome(_Message):
    """Acceptance of a connection.

    Attributes:
        attempt: The hello's, as it was understood.
        clock: Which CLOCK_MONOTONIC the peer reads.
        processor: The processor model of the peer's host.
    """

    kind: Literal["welcome"] = "welcome"
    attempt: Attempt = 0
    version: PeerText
    host: PeerText
    clock: PeerText
    processor: PeerText = ""


class Refuse(_Message):
    """Refusal, and why; the connection ends."""

    kind: Literal["refuse"] = "refuse"
    reason: PeerText


class Ping(_Message):
    """Request for a clock sample.

    Attributes:
        t_ns: The sender's clock.
    """

    kind: Literal["ping"] = "ping"
    t_ns: Nanoseconds


class Pong(_Message):
    """Answer to a ping.

    Attributes:
        t_ns: The ping's.
        peer_ns: The answering clock.
    """

    kind: Literal["pong"] = "pong"
    t_ns: Nanoseconds
    peer_ns: Nanoseconds


class PostcopySetup(Bounded):
    """What a switch to post-copy will need.

    Attributes:
        prepage: Neighbours to ask for with each page; -1: adaptive.
        recover_timeout: Seconds that the guest may wait for a lost source.
    """

    faults: Literal["auto", "kernel", "software"]
    prepage: int = Field(ge=-1, le=MAX_WINDOW)
    recover_timeout: float = Field(gt=0, le=86400)
    trace_faults: bool


class Setup(_Message):
    """The guest that will come, and how.

    Attributes:
        run_after: Seconds that it runs at the destination.
        keep: The guest then stays there under this name and is neither stopped nor digested;
            null: it is stopped, and digested with `verify`.
        checksum: Whether frames of pages have one, in both directions.
        expected: A summary of the pages that will come with content in the first round
            (`bitmap.summary`); null: nothing is expected.
        compress: How frames of pages may be compressed on bulk connections.
        delta: How pages may travel there as what has changed in them.
    """

    kind: Literal["setup"] = "setup"
    guest: GuestConfig
    channels: int = Field(ge=1, le=64)
    congestion: str = Field(pattern="^[a-z0-9_-]{1,15}$")
    run_after: float = Field(ge=0, le=86400)
    verify: bool
    checksum: bool
    vcpu_nice: int = Field(ge=0, le=19)
    keep: GuestName | None = None
    postcopy: PostcopySetup | None = None
    expected: bytes | None = Field(default=None, max_length=MOST_SUMMARY)
    compress: Compression = "none"
    delta: Literal["none", "xbzrle"] = "none"


class Ready(_Message):
    """Word that memory is there and kernels are compiled: pages may come.

    Attributes:
        faults: The mechanism by which pages may be missing; null without post-copy.
        faults_reason: Why that one.
    """

    kind: Literal["ready"] = "ready"
    faults: PeerText | None = None
    faults_reason: PeerText | None = None


class RoundDone(_Message):
    """Word that every channel has reached the round's barrier.

    Attributes:
        t_ns: When, on the destination's clock.
    """

    kind: Literal["round-done"] = "round-done"
    index: int = Field(ge=0, le=2**32 - 1)
    t_ns: Nanoseconds


class Commit(_Message):
    """The hand-over itself: the destination resumes when it has this and the last barrier.

    Attributes:
        missing: In post-copy the pages that will follow, a bit a page, least significant bit first,
            or shorter (`common.wire.bitmap.shorten`).
        push: Whether pages that nobody asks for come, too.
    """

    kind: Literal["commit"] = "commit"
    barrier: int = Field(ge=0, le=2**32 - 1)
    snapshot: dict[str, Any]
    missing: bytes | None = Field(default=None, max_length=MAX_CONTROL)
    push: bool = True


class Resumed(_Message):
    """Word that the destination runs the guest.

    Attributes:
        t_ns: When its last vCPU began, on the destination's clock.
    """

    kind: Literal["resumed"] = "resumed"
    t_ns: Nanoseconds


class Complete(_Message):
    """Word that no page is missing any more, in post-copy.

    Attributes:
        t_ns: Since when, on the destination's clock.
    """

    kind: Literal["complete"] = "complete"
    t_ns: Nanoseconds


class Resync(_Message):
    """What is still missing, in post-copy on a new connection.

    Attributes:
        missing: A bit a page, least significant bit first.
    """

    kind: Literal["resync"] = "resync"
    missing: bytes = Field(max_length=MAX_CONTROL)


class Finished(_Message):
    """What the destination measured, once the guest has been stopped, or is kept and goes on.

    Attributes:
        steps: Of each vCPU when it stopped, or at this moment.
        digest: Of the guest's memory; null where not asked for, and of a guest that goes on.
        cpu_s: CPU seconds of the agent from Setup to the resume, vCPUs not counted.
        unpack_cpu_s: CPU seconds of decompressing, in post-copy after the resume, too.
    """

    kind: Literal["finished"] = "finished"
    steps: list[Steps] = Field(max_length=MOST_VCPUS)
    digest: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None
    check: PeerText | None
    cpu_s: Seconds
    received_bytes: Count
    unpack_cpu_s: Seconds = 0.0
    beats: list[WireBeats] = Field(max_length=MOST_VCPUS)
    cache: WireCache | None
    postcopy: WirePostcopy | None = None
    samples: list[WireSample] = Field(max_length=20_000)
    events: list[WireEvent] = Field(max_length=20_000)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.beats) != len(self.steps):
            raise ValueError(f"heartbeats of {len(self.beats)} vCPUs, steps of {len(self.steps)}")
        if not in_order(sample.t_ns for sample in self.samples):
            raise ValueError("samples over a time that goes back")
        for name in ("steps", "dirtied_pages"):
            if not in_order(getattr(sample, name) for sample in self.samples):
                raise ValueError(f"{name} that become fewer")
        return self


class Bye(_Message):
    """Word that the source has all it needs; the destination may forget the session."""

    kind: Literal["bye"] = "bye"


class Cancel(_Message):
    """Word that the source gives up before the commit; the guest goes on there."""

    kind: Literal["cancel"] = "cancel"
    reason: PeerText


class Failed(_Message):
    """Word that the destination gives up before it resumed; it never will."""

    kind: Literal["failed"] = "failed"
    reason: PeerText


class CommitOutcome(_Message):
    """Answer to a query: does the destination run this session's guest?

    Attributes:
        answer: `never`: it does not and never will. `unknown`: this destination process has no such
            session.
        clock: As in `Welcome`.
        peer_ns: What that clock reads now, so that the source knows whether the same host answers.
    """

    kind: Literal["outcome"] = "outcome"
    answer: Literal["running", "never", "unknown"]
    resumed_ns: Nanoseconds | None = None
    clock: PeerText = ""
    peer_ns: Nanoseconds | None = None


Message = (
    Hello
    | Welcome
    | Refuse
    | Ping
    | Pong
    | Setup
    | Ready
    | RoundDone
    | Commit
    | Resumed
    | Complete
    | Resync
    | Finished
    | Bye
    | Cancel
    | Failed
    | CommitOutcome
)

_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def encode_message(message: Message) -> bytes:
    """Pack a message.

    Args:
        message: Of any kind.

    Returns:
        A msgpack map, the body of a control frame.

    Raises:
        LocalProtocolError: If msgpack can't hold it.
    """
    try:
        packed: bytes = msgpack.packb(message.model_dump(), use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(f"{message.kind} can't be packed: {error}") from error
    return packed


def decode_message(body: bytes) -> Message:
    """Unpack a message, after a check of its bounds.

    Args:
        body: Of a control frame, as it came.

    Returns:
        The message, whose fields have been checked one by one, and against each other.

    Raises:
        RemoteProtocolError: If it is not a message of ours.
    """
    bounds.check_bounds(body)
    return unpack_message(body)


def unpack_message(body: bytes) -> Message:
    """Unpack a message that is known to be within its bounds (`bounds.check_bounds`).

    Args:
        body: Of a control frame.

    Returns:
        As `decode_message`.

    Raises:
        RemoteProtocolError: Likewise.
    """
    try:
        # Lengths are bounded by the message's; integer keys and extension types are not ours.
        value = msgpack.unpackb(body, raw=False, strict_map_key=True, max_ext_len=0)
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RemoteProtocolError(f"malformed control message at {where}: {first['msg']}") from None
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(f"a control message that is not msgpack: {error}") from None
