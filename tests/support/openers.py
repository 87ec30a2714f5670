"""What strangers begin a connection with, and who sends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgpack

from pageferry.common.wire import encoder, messages
from pageferry.common.wire.frames import FrameType
from pageferry.common.wire.header import HEADER

PREFACE = encoder.encode_preface()
SESSION = "0123456789abcdef" * 2
TOKEN = "ab" * 32


def client_hello() -> bytes:
    """The first flight of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="x")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def hello(role: str, session: str = SESSION) -> bytes:
    message = messages.Hello.model_validate({"role": role, "session": session, "token": TOKEN})
    return encoder.encode_control(messages.encode_message(message))


def control(value: object) -> bytes:
    return encoder.encode_control(msgpack.packb(value))


def head(kind: int, flags: int, entries: int, length: int) -> bytes:
    return HEADER.pack(kind, flags, entries, 0, length)


@dataclass(frozen=True)
class Opener:
    """What is sent, what the destination then says, and whether the stranger ends its direction."""

    data: bytes
    said: str
    ends: bool = True


NO_MESSAGE: Final = "malformed|msgpack|does not begin with its kind"
OPENERS = {
    "nothing": Opener(b"", "closed the connection"),
    "one byte": Opener(b"p", "closed the connection"),
    "half a preface": Opener(PREFACE[:9], "closed the connection"),
    "HTTP": Opener(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "not a pageferry agent.*GET"),
    "RTSP": Opener(b"OPTIONS / RTSP/1.0\r\n\r\n", "not a pageferry agent.*OPTIONS"),
    "lines": Opener(b"\r\n" * 10, "not a pageferry agent"),
    "SSH": Opener(b"SSH-2.0-OpenSSH_9.6\r\n", "not a pageferry agent.*SSH"),
    "RDP": Opener(bytes.fromhex("030000130ee000000000000100080003000000"), "not a pageferry"),
    "DNS": Opener(b"\0\x1e\0\6\1\0\0\1\0\0\0\0\0\0\7version\4bind\0\0\x10\0\3", "not a pageferry"),
    "TLS": Opener(client_hello(), "it speaks TLS"),
    "zeros": Opener(bytes(500), "not a pageferry agent"),
    "noise": Opener(bytes(range(17, 256)), "not a pageferry agent"),
    "another version": Opener(encoder.encode_preface(9), "version mismatch"),
    "a preface, noise": Opener(PREFACE + b"\xff" * 64, "flags|unknown"),
    "2 GB of control": Opener(PREFACE + head(1, 1, 0, 2**31), "expected 1 to 4096"),
    "2**64 of control": Opener(PREFACE + head(1, 1, 0, 2**64 - 1), "expected 1 to 4096"),
    "half a hello": Opener(PREFACE + hello("control")[:40], "closed the connection"),
    "a wrong bit": Opener(PREFACE + hello("control")[:-1] + b"\0", "wrong checksum"),
    "pages": Opener(PREFACE + head(2, 1, 1000, 8000 + 2**24), "carries none"),
    "lines of pages": Opener(PREFACE + head(6, 1, 65535, 2**20), "carries none"),
    "a barrier": Opener(PREFACE + encoder.encode_barrier(1, checked=True), "bulk frame on a contr"),
    "a request": Opener(PREFACE + encoder.encode_request(1, checked=True), "serves none"),
    "another message": Opener(PREFACE + control({"kind": "bye"}), "sent bye, expected hello"),
    "no message": Opener(PREFACE + control([[[]]] * 500), NO_MESSAGE),
    "deep": Opener(PREFACE + encoder.encode_control(b"\x91" * 4000 + b"\0"), NO_MESSAGE),
    "a lying array": Opener(PREFACE + encoder.encode_control(b"\xdd\xff\xff\xff\xff"), NO_MESSAGE),
    "an extension": Opener(
        PREFACE + encoder.encode_control(b"\xc8\xff\xff\1" + bytes(99)), NO_MESSAGE
    ),
    "no token": Opener(
        PREFACE + control({"kind": "hello", "role": "bulk", "session": SESSION}), "token"
    ),
    "bulk of nobody": Opener(PREFACE + hello("bulk"), "no session that is known"),
    "urgent of nobody": Opener(PREFACE + hello("urgent"), "no session that is known"),
    "recovery of nobody": Opener(PREFACE + hello("recover"), "no guest of session"),
    "a question": Opener(PREFACE + hello("query"), "asks what became of it: unknown"),
}
SILENT = {
    "silence": Opener(b"", "did not say hello", ends=False),
    "a preface, silence": Opener(PREFACE, "did not say hello", ends=False),
    "half a hello, silence": Opener(
        PREFACE + hello("control")[:50], "did not say hello", ends=False
    ),
}


async def knock(port: int, opener: Opener, *, reset: bool = False) -> bytes:
    """Send it, and read until the destination closes; reset: be gone at once instead."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        answer = b""
        with contextlib.suppress(ConnectionError):
            await loop.sock_sendall(sock, opener.data)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return b""
            if opener.ends:
                sock.shutdown(socket.SHUT_WR)
            while part := await loop.sock_recv(sock, 65536):
                answer += part
        return answer


async def flood(port: int, n: int, openers: Sequence[Opener], at_once: int = 50) -> None:
    """`n` connections, of every kind in turn; each fifth is gone as soon as it has spoken."""
    turns = asyncio.Semaphore(at_once)

    async def one(index: int) -> None:
        async with turns:
            await knock(port, openers[index % len(openers)], reset=index % 5 == 4)

    async with asyncio.TaskGroup() as group:
        for index in range(n):
            group.create_task(one(index))


def peak_bytes(pid: int) -> int:
    """The most that a process has had in memory."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def connections(pid: int) -> int:
    """Sockets that a process has open."""
    count = 0
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(entry.path).startswith("socket:")
    return count


assert {FrameType.CONTROL, FrameType.PAGES, FrameType.LINES} == {1, 2, 6}
