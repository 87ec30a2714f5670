"""TLS on a socket: the handshake and what follows it on the event loop, records, and its errors.

`Connection` does the handshake on the event loop. Afterwards one thread at a time uses the socket
(`tls_threads`); another one may only shut it down, by `shutdown_socket` here, which never lets a
byte through in clear.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from pageferry.common.wire.certificate_names import name_to_verify

RECORD: Final = 16384  # bytes that one record carries at the most
RECORD_OVERHEAD: Final = 22  # header, type, tag
SEND: Final = 4 * RECORD  # in one call: even a slow link takes it within the stall timeout
_HANDSHAKE_RECORD: Final = 0x16

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


def tls_reason(error: ssl.SSLError) -> str:
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


def records_size(n: int) -> int:
    """Return the size of bytes, sent at once, as TLS records; handshakes are not known here.

    Args:
        n: Bytes.

    Returns:
        Bytes of their records.
    """
    return n + -(-n // RECORD) * RECORD_OVERHEAD


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
        server_hostname=None if hostname is None else name_to_verify(hostname),
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
        shutdown_socket(secure, socket.SHUT_WR)
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
            rest = rest[secure.send(rest[:SEND]) :]
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


def shutdown_socket(sock: socket.socket, how: int) -> None:
    """Shut down the connection below TLS.

    `SSLSocket.shutdown` would first make it a socket of plain bytes, on which another thread could
    send the guest's memory.

    Args:
        sock: With TLS.
        how: As of `socket.shutdown`.
    """
    socket.socket.shutdown(sock, how)
