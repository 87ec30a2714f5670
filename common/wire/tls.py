"""Mutual TLS 1.3: both ends show a certificate of one CA; the source checks the destination's name.

A folder holds what an end needs, under the names that QEMU's tls-creds-x509 has for them:

    ca-cert.pem                            whom to believe
    server-cert.pem, server-key.pem        what a destination shows
    client-cert.pem, client-key.pem        what a source shows

`Connection` does the handshake on the event loop. Afterwards one thread at a time uses the socket;
another one may only shut it down, by `shutdown` here, which never lets a byte through in clear.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import select
import socket
import ssl
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pageferry.common.errors import PageferryError, UsageError
from pageferry.common.files.input_files import open_file, read_whole
from pageferry.common.process.notices import notice
from pageferry.common.process.threads import WatchedThread, failure_of
from pageferry.common.wire.certificate_names import asked, certified, shown
from pageferry.common.wire.validity import out_of_time

CA: Final = "ca-cert.pem"
SERVER: Final = ("server-cert.pem", "server-key.pem")
CLIENT: Final = ("client-cert.pem", "client-key.pem")

RECORD: Final = 16384  # bytes that one record carries at the most
RECORD_OVERHEAD: Final = 22  # header, type, tag
_SEND: Final = 4 * RECORD  # in one call: even a slow link takes it within the stall timeout
_MOST_PEM: Final = 1 << 20  # a bundle of every CA that a system trusts has a quarter of it
_OPEN_FILES: Final = Path("/proc/self/fd")
_HANDSHAKE_RECORD: Final = 0x16
_TCP_NOTSENT_LOWAT: Final = 25
_LAST_WORDS_S: Final = 1.0
_URGENT_BYTES: Final = 32 * 1024  # in a buffer, for which a demanded page may have to wait


@dataclass(frozen=True, slots=True)
class ClientTls:
    """A source's end.

    Attributes:
        context: With its credentials.
        hostname: Whose certificate is expected; None: that of the address.
    """

    context: ssl.SSLContext
    hostname: str | None = None


def client_tls(folder: Path, hostname: str | None = None) -> ClientTls:
    """Load a source's credentials.

    Args:
        folder: Has the CA's certificate, and the client's with its key.
        hostname: Whose certificate is expected; None: that of the address.

    Returns:
        The source's end.

    Raises:
        UsageError: If a file or the name is not usable.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, folder, CLIENT)
    context.check_hostname = True
    return ClientTls(context, None if hostname is None else checked_hostname(hostname))


def checked_hostname(text: str) -> str:
    """Check a --tls-hostname.

    Args:
        text: As a person gave it.

    Returns:
        The name or address as certificates have it.

    Raises:
        UsageError: If no certificate can be for it.
    """
    try:
        return str(certified(text))
    except ValueError as error:
        raise UsageError(f"--tls-hostname {shown(text)}: {error}") from None


def server_tls(folder: Path) -> ssl.SSLContext:
    """Load a destination's credentials.

    Args:
        folder: Has the CA's certificate, and the server's with its key.

    Returns:
        A context that asks for the source's certificate.

    Raises:
        UsageError: If a file is not usable.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, folder, SERVER)
    # Never read by our peers, and unread input turns the end of a connection into a reset.
    context.num_tickets = 0
    return context


def _context(protocol: Any, folder: Path, own: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    with contextlib.ExitStack() as copies:
        authority, certificate, key = (
            copies.enter_context(_copy(folder / name, private=name == own[1]))
            for name in (CA, *own)
        )
        try:
            context.load_verify_locations(authority)
            context.load_cert_chain(certificate, key, password=lambda: "")  # never ask a terminal
        except (ssl.SSLError, OSError) as error:
            raise UsageError(
                f"--tls {folder}: {CA}, {own[0]} and {own[1]} do not make credentials:"
                f" {_said(error)}"
            ) from None
        for problem in out_of_time(context, CA, certificate, own[0]):
            notice(f"--tls {folder}: {problem}")
    return context


@contextlib.contextmanager
def _copy(path: Path, *, private: bool) -> Iterator[str]:
    """Give OpenSSL a file, which it opens by name, waiting for whatever that is.

    It gets a copy in memory of what was found to be a file and, if it is a key, readable by nobody
    else.
    """
    try:
        fd = open_file(path)
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        data = read_whole(fd, _MOST_PEM)
    except OSError as error:
        raise UsageError(
            f"--tls {path.parent}: can't read {path.name}: {error.strerror}"
            " (pageferry certs makes a folder)"
        ) from None
    if len(data) > _MOST_PEM:
        raise UsageError(
            f"--tls {path.parent}: {path.name} is too large: expected at most {_MOST_PEM >> 20} MiB"
        )
    if private and mode & 0o077:
        raise UsageError(
            f"--tls {path.parent}: others may use {path.name} (mode {mode:04o}): chmod 600 {path}"
        )
    if not _OPEN_FILES.is_dir():
        yield str(path)
        return
    with os.fdopen(os.memfd_create(path.name, os.MFD_CLOEXEC), "wb") as copy:
        copy.write(data)
        copy.flush()
        yield str(_OPEN_FILES / str(copy.fileno()))


def _said(error: OSError) -> str:
    """Return OpenSSL's reason; it has none for a file that it can't make anything of."""
    if isinstance(error, ssl.SSLError):
        return error.reason or "one of them is damaged, or no PEM file"
    return error.strerror or str(error)


_REASONS: Final = {
    "UNKNOWN_CA": "did not accept our certificate: it is of another CA",
    "CERTIFICATE_REQUIRED": "wants a certificate, and we showed none",
    "CERTIFICATE_EXPIRED": "did not accept our certificate: it has expired",
    "BAD_CERTIFICATE": "did not accept our certificate",
    "UNSUPPORTED_CERTIFICATE": "did not accept our certificate: it is for another purpose",
    "DECRYPT_ERROR": "did not accept our certificate: its signature is wrong",
    "PROTOCOL_VERSION": "does not speak TLS 1.3",
    "UNSUPPORTED_PROTOCOL": "does not speak TLS 1.3",
    "HANDSHAKE_FAILURE": "found nothing in common with our TLS",
    "WRONG_VERSION_NUMBER": "does not speak TLS",
    "PACKET_LENGTH_TOO_LONG": "does not speak TLS",
    "RECORD_LAYER_FAILURE": "sent what its key did not encrypt",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "sent what its key did not encrypt",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "showed no certificate",
}


def why(error: ssl.SSLError) -> str:
    """Say what went wrong in TLS.

    Args:
        error: As OpenSSL raised it.

    Returns:
        Words that follow the peer's name.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        text = error.verify_message.rstrip(".")
        hint = ""
        if "mismatch" in text:
            hint = " (--tls-hostname names another one that is meant)"
        return f"showed a certificate that is not accepted: {text}{hint}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "ended the TLS handshake: does it have --tls, too?"
    reason = error.reason or str(error)
    for key, words in _REASONS.items():
        if reason.endswith(key):
            return words
    return f"failed in TLS: {reason.replace('_', ' ').lower()}"


def looks_like_tls(data: bytes) -> bool:
    """Return whether a stream begins as a TLS client's.

    Args:
        data: Its first bytes; one may do.

    Returns:
        False for a preface of ours.
    """
    return data[:1] == bytes([_HANDSHAKE_RECORD]) and data[1:2] in (b"", b"\x03")


def wire_size(n: int) -> int:
    """Return the size of bytes, sent at once, as TLS records; handshakes are not known here.

    Args:
        n: Bytes.

    Returns:
        Bytes of their records.
    """
    return n + -(-n // RECORD) * RECORD_OVERHEAD


# -- on the event loop -----------------------------------------------------------------------------


async def _until(fd: int, add: Callable[..., Any], remove: Callable[[int], Any]) -> None:
    ready = asyncio.Event()
    add(fd, ready.set)
    try:
        await ready.wait()
    finally:
        remove(fd)


async def readable(sock: socket.socket) -> None:
    """Wait until there is something to read.

    Args:
        sock: Non-blocking; it has no other such waiter.
    """
    loop = asyncio.get_running_loop()
    await _until(sock.fileno(), loop.add_reader, loop.remove_reader)


async def writable(sock: socket.socket) -> None:
    """Wait until a socket takes something, or its connection has been made or not.

    Args:
        sock: Non-blocking; it has no other such waiter.
    """
    loop = asyncio.get_running_loop()
    await _until(sock.fileno(), loop.add_writer, loop.remove_writer)


async def handshake(
    sock: socket.socket, context: ssl.SSLContext, hostname: str | None = None
) -> ssl.SSLSocket:
    """Wrap a socket in TLS.

    Args:
        sock: Non-blocking; not to be used any more.
        context: Of this end.
        hostname: Whose certificate is expected; None: this is the server's end.

    Returns:
        The non-blocking socket that takes its place.

    Raises:
        ssl.SSLError: If it fails; the socket is closed, but what the peer was told is on its way.
        OSError: Likewise.
    """
    secure = context.wrap_socket(
        sock,
        server_side=hostname is None,
        server_hostname=None if hostname is None else asked(hostname),
        do_handshake_on_connect=False,
    )
    try:
        while True:
            try:
                secure.do_handshake()
                return secure
            except ssl.SSLWantReadError:
                await readable(secure)
            except ssl.SSLWantWriteError:
                await writable(secure)
    except (ssl.SSLError, OSError):
        await drain(secure)
        raise
    except BaseException:
        secure.close()
        raise


async def drain(secure: ssl.SSLSocket, most_s: float = 1.0) -> None:
    """Close so that the peer can still read our last bytes: see `Connection.linger`.

    Args:
        secure: Non-blocking.
        most_s: How long to read on.
    """
    try:
        shutdown(secure, socket.SHUT_WR)
        async with asyncio.timeout(most_s):
            for _ in range(64):
                await readable(secure)
                if not socket.socket.recv(secure, 65536):  # ciphertext, of no interest
                    break
    except (OSError, TimeoutError):
        pass
    finally:
        secure.close()


async def receive_into(secure: ssl.SSLSocket, view: memoryview) -> int:
    """Receive as `loop.sock_recv_into`.

    Args:
        secure: Non-blocking.
        view: Filled from the front.

    Returns:
        Bytes; 0: the peer has ended it.
    """
    while True:
        try:
            return secure.recv_into(view)
        except ssl.SSLWantReadError:
            await readable(secure)
        except ssl.SSLWantWriteError:  # a new key has to go out, behind what somebody else sends
            await asyncio.sleep(0.001)


async def send_all(secure: ssl.SSLSocket, data: bytes) -> None:
    """Send as `loop.sock_sendall`.

    Args:
        secure: Non-blocking.
        data: All of it is sent.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[secure.send(rest[:_SEND]) :]
        except ssl.SSLWantWriteError:
            await writable(secure)
        except ssl.SSLWantReadError:
            await asyncio.sleep(0.001)


def certificate_of(secure: ssl.SSLSocket) -> bytes:
    """Return a digest of the certificate that the peer has shown.

    Args:
        secure: After its handshake.

    Returns:
        SHA-256 of its DER form.
    """
    shown = secure.getpeercert(binary_form=True)
    return hashlib.sha256(shown or b"").digest()


# -- in threads ------------------------------------------------------------------------------------


def shutdown(sock: socket.socket, how: int) -> None:
    """Shut down the connection below TLS.

    `SSLSocket.shutdown` would first make it a socket of plain bytes, on which another thread could
    send the guest's memory.

    Args:
        sock: With TLS.
        how: As of `socket.shutdown`.
    """
    socket.socket.shutdown(sock, how)


class ScatteringTls:
    """What bulk connections use of a socket, over TLS: for one thread, and `shutdown` for any.

    Args:
        secure: Blocking, perhaps with a timeout; `close` closes it.
    """

    def __init__(self, secure: ssl.SSLSocket) -> None:
        self._secure = secure
        self._together = bytearray(_SEND)

    def sendmsg(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Send from the front; small buffers share records.

        Args:
            buffers: At least one.

        Returns:
            How many bytes were sent, perhaps not all.
        """
        first = buffers[0]
        if len(first) >= RECORD:
            return self._secure.send(first[:_SEND])
        filled = 0
        for buffer in buffers:
            part = buffer[: _SEND - filled]
            self._together[filled : filled + len(part)] = part
            filled += len(part)
            if filled == _SEND:
                break
        sent = 0
        with memoryview(self._together) as view:
            while sent < filled:
                sent += self._secure.send(view[sent:filled])
        return sent

    def recvmsg_into(self, buffers: Sequence[memoryview]) -> tuple[int]:
        """Fill buffers from the front with what there is.

        Args:
            buffers: At least one.

        Returns:
            (bytes,); (0,): the peer has ended the connection.
        """
        total = 0
        for buffer in buffers:
            n = self._secure.recv_into(buffer)
            total += n
            if n < len(buffer) or not self._secure.pending():
                break
        return (total,)

    def shutdown(self, how: int) -> None:
        """Shut down as `tls.shutdown`.

        Args:
            how: As of `socket.shutdown`.
        """
        shutdown(self._secure, how)

    def close(self) -> None:
        """Release the socket."""
        self._secure.close()


def plain_end(
    secure: ssl.SSLSocket, tell: Callable[[PageferryError], None] | None = None
) -> socket.socket:
    """Make a socket of plain bytes for compiled code; a thread carries them on through TLS.

    The thread ends, and closes the connection, when either side does.

    Args:
        secure: The thread's from now on.
        tell: Called on that thread with what has ended it otherwise.

    Returns:
        A local, blocking socket; the caller closes it.
    """
    here, there = socket.socketpair()
    for sock in (here, there):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _URGENT_BYTES)
    secure.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _URGENT_BYTES)
    pump = _Pump(secure, there)
    WatchedThread(partial(pump.run, tell), "tls-urgent").start()
    return here


class _Pump:
    """Carries bytes between a TLS connection and a local socket; one thread uses both."""

    def __init__(self, secure: ssl.SSLSocket, local: socket.socket) -> None:
        self._secure, self._local = secure, local
        secure.setblocking(False)
        local.setblocking(False)
        self._in = bytearray(_SEND)
        self._out = bytearray(_SEND)
        self._to_local = memoryview(b"")
        self._to_secure = memoryview(b"")
        self._ended = False  # the TLS side; what has come is still carried on

    def run(self, tell: Callable[[PageferryError], None] | None) -> None:
        """Carry bytes until either side ends, then close both: the thread's life."""
        try:
            while not (self._ended and not self._to_local):
                self._wait()
                self._inward()
                self._outward()
        except OSError:
            pass  # whoever uses the plain end sees that it has ended, and says so
        except BaseException as error:  # noqa: BLE001 - before the end of the connections is seen
            if tell is not None:
                tell(failure_of(error))
        finally:
            self._secure.close()
            self._local.close()

    def _wait(self) -> None:
        poll = select.poll()
        wants = select.POLLOUT if self._to_secure else 0
        if not self._to_local and not self._ended:
            if self._secure.pending():
                return
            wants |= select.POLLIN
        poll.register(self._secure.fileno(), wants)
        wants = select.POLLOUT if self._to_local else 0
        poll.register(self._local.fileno(), wants | (0 if self._to_secure else select.POLLIN))
        ended = select.POLLHUP | select.POLLERR
        if any(fd == self._local.fileno() and event & ended for fd, event in poll.poll()):
            self._last_words()

    def _last_words(self) -> None:
        """Send on for a bounded while what came before the plain end was closed."""
        self._secure.settimeout(_LAST_WORDS_S)
        while True:
            if self._to_secure:
                self._secure.sendall(self._to_secure)
            n = self._local.recv_into(self._out)
            if n == 0:
                raise OSError("the plain end has been closed")
            self._to_secure = memoryview(self._out)[:n]

    def _inward(self) -> None:
        if not self._to_local and not self._ended:
            try:
                n = self._secure.recv_into(self._in)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                n = -1
            if n >= 0:
                self._to_local, self._ended = memoryview(self._in)[:n], n == 0
        if self._to_local:
            with contextlib.suppress(BlockingIOError):
                self._to_local = self._to_local[self._local.send(self._to_local) :]

    def _outward(self) -> None:
        if not self._to_secure:
            try:
                n = self._local.recv_into(self._out)
            except BlockingIOError:
                return
            if n == 0:
                raise OSError("the plain end has been closed")
            self._to_secure = memoryview(self._out)[:n]
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._to_secure = self._to_secure[self._secure.send(self._to_secure) :]
