"""What a peer costs that has been let in: no more than docs/security.md says, and it is served."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgpack
import numpy as np
import pytest

from pageferry.common.config.guest import GuestConfig
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder, frames, messages
from pageferry.common.wire.connecting import connect
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.extents import EXTENT, Extents
from tests.support import liar
from tests.support.liar import Lie, LyingDestination, plain
from tests.support.running import Running, destination, running

CHANNELS: Final = 16
# docs/security.md: what a source costs beside its guest.
MOST_MIB: Final = 64 + 16 + 5 * CHANNELS + 1
LARGE: Final = 5  # frames of 16 MiB that have a buffer at once: four are kept, one is drawn
MEMORY: Final = 32 * 2**20
# What a destination costs a source beside its guest.
MOST_OF_SOURCE_MIB: Final = 160


def _mib(dest: Running, what: str) -> float:
    status = Path(f"/proc/{dest.process.pid}/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


def _scattered() -> Extents:
    """As many pages as a frame may have, in as many places: received beside guest memory."""
    counts = np.full(frames.MAX_EXTENTS, 4)
    counts[:96] = 5
    out = np.zeros(len(counts), EXTENT)
    out["count"] = counts
    out["first"] = np.cumsum(counts + 1) - counts
    return out


async def _open(port: int, role: str, index: int = 0) -> Connection:
    hello = messages.Hello.model_validate(
        {"role": role, "session": "5" * 32, "token": "0" * 64, "channel": index}
    )
    connection = await connect("127.0.0.1", port, hello)
    await connection.expect(messages.Welcome)
    return connection


def test_many_large_frames_that_stay_unfinished_cost_no_more_than_is_said() -> None:
    """Under `RLIMIT_DATA`: who has no buffer is not read, and all come through in the end."""
    guest = GuestConfig(memory=MEMORY, vcpus=1, workload="idle", seed=1)
    setup = liar.setup().model_copy(update={"guest": guest, "channels": CHANNELS})
    head = encoder.encode_pages_head(_scattered(), checked=True)
    pages = bytes([7]) * (frames.MAX_FRAME_PAGES * PAGE_SIZE)
    end = encoder.trailer(head, pages) + encoder.encode_barrier(1, checked=True)
    most = head + pages[:-1]

    async def scenario(dest: Running, port: int) -> None:
        control = await _open(port, "control")
        await control.send(setup)
        await control.expect(messages.Ready)
        bulks = [await _open(port, "bulk", index) for index in range(CHANNELS)]
        before = _mib(dest, "VmRSS")
        limit = int((_mib(dest, "VmData") + MOST_MIB) * 2**20)
        resource.prlimit(dest.process.pid, resource.RLIMIT_DATA, (limit, limit))
        sending = [asyncio.create_task(bulk._write(most)) for bulk in bulks]
        unfinished: set[asyncio.Task[None]] = set(sending)
        while CHANNELS - len(unfinished) < LARGE:
            _, unfinished = await asyncio.wait(
                unfinished, return_when=asyncio.FIRST_COMPLETED, timeout=20
            )
        await control.send(messages.Ping(t_ns=1))
        await control.expect(messages.Pong)  # who waits for a buffer keeps nobody else waiting
        assert _mib(dest, "VmRSS") - before < MOST_MIB

        async def finish(bulk: Connection, sent: asyncio.Task[None]) -> None:
            await sent
            await bulk._write(pages[-1:] + end)

        await asyncio.gather(*map(finish, bulks, sending))
        await control.expect(messages.RoundDone)
        assert _mib(dest, "VmHWM") - before < MOST_MIB + MEMORY / 2**20
        await control.send(messages.Cancel(reason="that is all"))
        for connection in (*bulks, control):
            connection.close()

    with destination("--once") as (dest, where):
        asyncio.run(asyncio.wait_for(scenario(dest, int(where.rpartition(":")[2])), 60))
        run = dest.end()
    assert "Traceback" not in run.stderr, run.stderr


class Heavy(LyingDestination):
    """Its result is a heavy one, which it sends when it may; the source waits for it."""

    def __init__(self, make: Callable[[messages.Finished], bytes]) -> None:
        super().__init__(None)
        self._make = make
        self.may_go, self.waits = threading.Event(), threading.Event()

    async def _say(self, connection: Connection, step: str, due: messages.Message) -> None:
        if step == "finish":
            assert isinstance(due, messages.Finished)
            self._lie = Lie(step, "", self._make(due))
            self.waits.set()
            await asyncio.to_thread(self.may_go.wait, 30)
        await super()._say(connection, step, due)


def _of_maps(finished: messages.Finished) -> bytes:
    """Which is no result: a byte each that becomes an object of 64."""
    head = plain(finished)
    samples = head.pop("samples")
    assert samples == []
    body = msgpack.packb(head | {"samples": 0})[:-1]
    n = 1_490_000
    return bytes(body) + b"\xdd" + n.to_bytes(4, "big") + b"\x80" * n


def _of_numbers(finished: messages.Finished) -> bytes:
    """Which may be: as many numbers as there may be events of."""
    event = {"t_ns": plain(finished)["beats"][0]["first_ns"], "event": "e"}
    fields = {f"f{n}": [0.5 + n] * 64 for n in range(16)}
    events = [event | {"fields": fields} for _ in range(800)]
    return bytes(msgpack.packb(plain(finished) | {"events": events}))


@pytest.mark.parametrize(
    ("make", "code"), [(_of_maps, 3), (_of_numbers, 0)], ids=["maps", "numbers"]
)
def test_a_heavy_result_costs_a_source_no_more_than_is_said(
    make: Callable[[messages.Finished], bytes], code: int
) -> None:
    """Under `RLIMIT_DATA`, from when the guest has moved."""
    with Heavy(make) as dest:
        options = "--memory", "1MiB", "--workload", "idle", "--warmup", "0s", "--run-after", "0s"
        to = "--to", f"127.0.0.1:{dest.port}", "--no-verify", "--max-bandwidth", "unlimited"
        with running("source", *to, *options, status=False) as source:
            assert dest.waits.wait(60)
            limit = int((_mib(source, "VmData") + MOST_OF_SOURCE_MIB) * 2**20)
            resource.prlimit(source.process.pid, resource.RLIMIT_DATA, (limit, limit))
            dest.may_go.set()
            run = source.end()
    assert "Traceback" not in run.stderr, run.stderr
    assert "MemoryError" not in run.stderr, run.stderr
    assert run.exit_code == code, run.stderr
