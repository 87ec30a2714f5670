"""What a destination takes on, and what it takes no memory for."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time

import pytest
import uvloop

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import PageferryError, PeerRefused
from pageferry.common.process.rate_limited_log import MOST_LINES, WINDOW_S
from pageferry.common.wire import encoder, frames, header, listener, messages
from pageferry.common.wire.connecting import connect
from pageferry.common.wire.listener import HELLO_BYTES
from pageferry.dest_agent.session_table import MAX_WAITING, MOST_WAITING, SessionLimits
from tests.support.harness import destination, pageferry
from tests.support.inprocess import listening, move, session_to

MIB = 2**20
SMALL = ("--memory", "16MiB", "--warmup", "0s", "--run-after", "0s", "--max-bandwidth", "unlimited")
CONFIG = MigrationConfig(
    memory=16 * MIB, warmup=0.0, run_after=0.0, max_bandwidth=float("inf"), strategy="stop-and-copy"
)
LONG = CONFIG.model_copy(update={"warmup": 60.0})
TOKEN = "ab" * 32


def hello(session: str, role: str = "control") -> messages.Hello:
    return messages.Hello.model_validate({"role": role, "session": session, "token": TOKEN})


def test_max_memory_is_said_at_both_ends() -> None:
    with destination("--max-memory", "16MiB") as (agent, port):
        run = pageferry("source", "--to", f"127.0.0.1:{port}", *SMALL)
        assert run.exit_code == 1
        expected = "guest of 16MiB with its cache of 4MiB is over .*--max-memory 16MiB"
        assert re.search(expected, run.complaint)
        for _ in range(2):  # the second has the memory of the first
            fits = pageferry("source", "--to", f"127.0.0.1:{port}", "--cache", "0", *SMALL)
            assert fits.exit_code == 0, fits.stderr
        agent.process.terminate()
        assert re.search(expected, agent.end().stderr)


def test_no_more_sessions_than_max_sessions_are_let_in() -> None:
    async def scenario() -> None:
        async with listening(SessionLimits(max_sessions=1)) as (_agent, port, said):
            first = asyncio.create_task(session_to(port, LONG).run())
            await said.until("preparing")
            with pytest.raises(PeerRefused, match="busy with 1 migrations"):
                await session_to(port, CONFIG).run()
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await said.until("ended")
            await session_to(port, CONFIG).run()

    uvloop.run(scenario())


def test_who_says_hello_and_no_more_keeps_nobody_out() -> None:
    async def scenario() -> None:
        async with listening(SessionLimits(max_sessions=1)) as (_agent, port, said):
            waiting = []
            for number in range(MAX_WAITING + 1):
                stranger = await connect("127.0.0.1", port, hello(f"{number:032x}"))
                await stranger.expect(messages.Welcome)
                waiting.append(stranger)
            await said.until("others came before it said which guest it brings")
            with pytest.raises(PeerRefused, match="others came"):
                await waiting[0].expect(messages.Ready)
            await session_to(port, CONFIG).run()
            for stranger in waiting:
                stranger.close()

    uvloop.run(scenario())


def test_a_flood_of_hellos_is_bounded() -> None:
    async def scenario() -> None:
        async with listening() as (agent, port, said):
            most, welcome, began = 0, 0, time.monotonic()
            refusals: list[str] = []
            with contextlib.ExitStack() as strangers:
                for number in range(3 * MAX_WAITING):
                    stranger = await connect("127.0.0.1", port, hello(f"{number:032x}"))
                    strangers.callback(stranger.close)
                    # Those before it have to go; while too many are going, it is told so.
                    try:
                        await stranger.expect(messages.Welcome)
                        welcome += 1
                    except PeerRefused as refusal:
                        refusals.append(str(refusal))
                    most = max(most, agent.sessions)
                assert most <= MOST_WAITING
                assert welcome >= MOST_WAITING
                assert all("too many have said hello" in refusal for refusal in refusals)
                windows = 1 + (time.monotonic() - began) / WINDOW_S
                assert len(said) < (1 + windows) * MOST_LINES

    uvloop.run(scenario())


async def _refused(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()


def test_a_long_hello_is_not_read() -> None:
    async def scenario() -> None:
        head = header.HEADER.pack(frames.FrameType.CONTROL, header.CHECKED, 0, 0, HELLO_BYTES + 1)
        async with listening() as (_agent, port, said):
            answer = await _refused(port, encoder.encode_preface() + head)
            assert answer == encoder.encode_preface()
            await said.until(f"a control message of {HELLO_BYTES + 1} bytes, expected 1 to 4096")

    uvloop.run(scenario())


def test_a_long_message_before_the_setup() -> None:
    async def scenario() -> None:
        async with listening() as (_agent, port, said):
            connection = await connect("127.0.0.1", port, hello("b" * 32))
            await connection.expect(messages.Welcome)
            with contextlib.suppress(PageferryError):
                await connection.send(messages.Commit(barrier=1, snapshot={}, missing=bytes(5000)))
                await connection.receive()
            await said.until("expected 1 to 4096")
            connection.close()

    uvloop.run(scenario())


def test_messages_that_nobody_waits_for() -> None:
    """They come while the destination has no turn for them, and must not gather."""

    async def scenario() -> None:
        async with listening() as (_agent, port, said):
            connection = await connect("127.0.0.1", port, hello("c" * 32))
            await connection.expect(messages.Welcome)
            with contextlib.suppress(PageferryError):
                for _ in range(100):
                    await connection.send(messages.Bye())
                while True:
                    await connection.receive()
            await said.until("ended")
            connection.close()

    uvloop.run(scenario())


def test_the_silent_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_HANDSHAKES", 8)

    async def scenario() -> None:
        async with listening() as (_agent, port, said):
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
            session = session_to(port, CONFIG)
            await session.run()
            dropped = [line for line in said if "was dropped without a hello" in line]
            assert len(dropped) >= 20
            for reader, _writer in silent[:22]:
                assert await reader.read() == b""
            for _reader, writer in silent:
                writer.close()

    uvloop.run(scenario())


def test_the_deadline_is_for_all_of_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE_S", 0.5)

    async def scenario() -> None:
        async with listening() as (_agent, port, said):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            trickle = asyncio.create_task(_trickle(writer))
            assert await reader.read() == b""
            trickle.cancel()
            await asyncio.gather(trickle, return_exceptions=True)
            writer.close()
            await said.until("did not say hello within")

    uvloop.run(scenario())


async def _trickle(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        for byte in encoder.encode_preface() * 1000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)


def test_a_file_of_the_destination_is_nobody_elses_business() -> None:
    """Whatever a peer names as a trace, the answer is the same; why is said in the log."""

    async def scenario() -> None:
        reasons = set()
        async with listening() as (_agent, port, said):
            for index, name in enumerate(("/etc/passwd", "/nonexistent", "/dev/zero")):
                connection = await connect("127.0.0.1", port, hello(f"{index:032x}"))
                await connection.expect(messages.Welcome)
                guest = CONFIG.guest.model_copy(update={"workload": f"trace:file={name}"})
                await connection.send(
                    messages.Setup(
                        guest=guest,
                        channels=1,
                        congestion="cubic",
                        run_after=0,
                        verify=True,
                        checksum=True,
                        vcpu_nice=0,
                    )
                )
                refusal = await connection.receive()
                assert isinstance(refusal, messages.Refuse)
                reasons.add(refusal.reason)
                assert any(name in line for line in said)
                connection.close()
        assert len(reasons) == 1
        assert "trace" in reasons.pop()

    uvloop.run(scenario())


def test_the_limits_let_a_migration_through() -> None:
    assert uvloop.run(move(CONFIG)).verified is True
