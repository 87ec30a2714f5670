"""Connecting to a destination: name, socket, TLS, prefaces, hello."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from pageferry.common.errors import ConnectionBroken, PeerUnreachable
from pageferry.common.wire import tls
from pageferry.common.wire.addresses import format_host_port, open_socket
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.link_policy import DEFAULT, LinkPolicy
from pageferry.common.wire.messages import Hello
from pageferry.common.wire.tcp import os_reason, tune
from pageferry.common.wire.tls_credentials import ClientTls

HANDSHAKE_S: Final = 10.0  # from accept to Hello, and from connect to the peer's preface


async def connect(
    host: str,
    port: int,
    hello: Hello,
    link: LinkPolicy = DEFAULT,
    *,
    command: str = "pageferry dest",
) -> Connection:
    """Connect to a destination, exchange prefaces, say hello; its answer is not read yet.

    Args:
        host: All addresses of it are tried, within `HANDSHAKE_S`.
        port: TCP port.
        hello: Says what the connection is for, and of which attempt it is.
        link: As all connections of the session; the handshake itself is not tapped.
        command: What is expected to listen there, for messages.

    Returns:
        The connection, which the caller closes.

    Raises:
        PeerUnreachable: If nobody answers there, or not within `HANDSHAKE_S`, or TLS fails.
        RemoteProtocolError: If who answers is not of our kind and version.
        UsageError: If this host does not have that congestion control, or not for this user.
    """
    peer = format_host_port(host, port)
    sock = await open_socket(host, port, HANDSHAKE_S, command)
    connection = Connection(sock, peer, link.stall_s)
    connection.belong(hello.attempt)
    try:
        tune(sock, link.congestion, link.stall_s)
        async with asyncio.timeout(HANDSHAKE_S):
            await _shake_hands(connection, hello, link.secure, host)
    except TimeoutError:
        connection.close()
        raise PeerUnreachable(
            f"{peer} took the connection but did not answer within {HANDSHAKE_S:.0f} s:"
            f" is it '{command}'?"
        ) from None
    except ConnectionBroken as error:
        connection.close()
        hint = f" during the handshake: is it '{command}'?" * (link.secure is None)
        raise PeerUnreachable(f"{error}{hint}") from None
    except BaseException:
        connection.close()
        raise
    connection.tap(link.tap)
    return connection


async def _shake_hands(
    connection: Connection, hello: Hello, secure: ClientTls | None, host: str
) -> None:
    """Begin TLS, if wanted, exchange prefaces, and say hello."""
    if secure is not None:
        await _secure(connection, secure, host)
    await connection.send_preface()
    await connection.send(hello)
    await connection.read_preface()


async def _secure(connection: Connection, secure: ClientTls, host: str) -> None:
    try:
        await connection.secure(secure.context, secure.hostname or host.partition("%")[0])
    except ssl.SSLError as error:
        raise PeerUnreachable(f"{connection.peer} {tls.tls_reason(error)}") from None
    except OSError as error:
        raise PeerUnreachable(
            f"{connection.peer} ended the TLS handshake ({os_reason(error)}): does it have --tls,"
            " too?"
        ) from None
