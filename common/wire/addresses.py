"""Names and addresses: how they are written, found, listened on, and which of several answers.

A name may have several addresses, and the first of them may be silent. So they are tried as
browsers do it (RFC 8305): families alternate, the next attempt begins `STAGGER_S` after the last,
or when one has failed, and the first connection that stands is taken. One limit bounds all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Final

from pageferry.common.errors import PeerUnreachable, UsageError
from pageferry.common.wire.tls import writable

STAGGER_S: Final = 0.25  # the "Connection Attempt Delay" that RFC 8305 recommends
_MOST_SHOWN: Final = 4  # addresses in a message
_PORTS_TRIED: Final = 16  # until one is free on every address

Info = tuple[Any, ...]  # as of getaddrinfo
SocketAddress = tuple[Any, ...]


def format_host_port(host: str, port: int) -> str:
    """Return HOST:PORT as people write it: `[::1]:4444`.

    Args:
        host: A name or a numeric address, without brackets.
        port: TCP port.

    Returns:
        IPv6 in brackets.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(address: SocketAddress) -> str:
    """Return the numeric host of a socket's address, with its IPv6 zone: `fe80::1%eth0`.

    Args:
        address: As of `getpeername`.

    Returns:
        The zone as its interface's name, or as a number where the interface has gone.
    """
    host = str(address[0])
    if len(address) < 4 or not address[3] or "%" in host:
        return host
    zone = str(address[3])
    with contextlib.suppress(OSError):  # the interface has gone
        zone = socket.if_indextoname(address[3])
    return f"{host}%{zone}"


def format_address(address: SocketAddress) -> str:
    """Return HOST:PORT of a socket's address.

    Args:
        address: As of `getpeername`.

    Returns:
        What is no IP address, as Python shows it.
    """
    return format_host_port(host_of(address), int(address[1])) if len(address) > 1 else str(address)


def is_loopback(host: str) -> bool:
    """Return whether an address leads to this host only.

    Args:
        host: Numeric, perhaps with a zone.

    Returns:
        Whether it is a loopback address.

    Raises:
        ValueError: If it is a name.
    """
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def alternating(infos: Sequence[Info]) -> list[Info]:
    """Return each address once; the family of the first one, another one, and so on (RFC 8305, 4).

    Args:
        infos: As `getaddrinfo` gives them, the preferred one first.

    Returns:
        In the order in which to try them.
    """
    by_family: dict[int, list[Info]] = {}
    for info in dict.fromkeys(infos):
        by_family.setdefault(info[0], []).append(info)
    rows = zip_longest(*by_family.values())
    return [info for info in chain.from_iterable(rows) if info is not None]


# -- connecting ------------------------------------------------------------------------------------


async def open_socket(host: str, port: int, limit_s: float, command: str) -> socket.socket:
    """Connect to the first address of a host that answers.

    Args:
        host: A name or a numeric address, perhaps with an IPv6 zone.
        port: TCP port.
        limit_s: For all of it, the name's look-up too.
        command: What is expected to listen there, for messages.

    Returns:
        A connected, non-blocking socket, which the caller closes.

    Raises:
        PeerUnreachable: If there is no such name, or no address answers in time.
    """
    infos: list[Info] = []
    try:
        async with asyncio.timeout(limit_s):
            infos = alternating(await _look_up(host, port))
            return await _first_to_answer(infos)
    except (socket.gaierror, UnicodeError) as error:
        words = getattr(error, "strerror", None) or "it is no name of a host"
        raise PeerUnreachable(f"no address for {host!r}: {words}") from None
    except TimeoutError:
        raise PeerUnreachable(
            f"no answer from {_tried(host, port, infos)} within {limit_s:.0f} s"
        ) from None
    except OSError as error:
        hint = f" (is '{command}' running there?)" * (error.errno == errno.ECONNREFUSED)
        words = os.strerror(error.errno) if error.errno else str(error)
        raise PeerUnreachable(
            f"can't connect to {_tried(host, port, infos)}: {words}{hint}"
        ) from None


async def _look_up(host: str, port: int) -> Sequence[Info]:
    # A zone is not resolved with names, and uvloop's own look-up loses it.
    if "%" in host:
        _check_zone(host.partition("%")[2])
        flags = socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _check_zone(zone: str) -> None:
    if zone.isascii() and zone.isdigit():  # an index, which connecting checks
        return
    try:
        socket.if_nametoindex(zone)
    except (OSError, ValueError):  # the latter: what no name can have in it
        raise PeerUnreachable(f"there is no network interface {zone!r} here") from None


def _tried(host: str, port: int, infos: Sequence[Info]) -> str:
    """Return HOST:PORT, and which addresses that is where it is a name."""
    hosts = [host_of(info[4]) for info in infos]
    if not hosts or hosts == [host]:
        return format_host_port(host, port)
    more = f" and {len(hosts) - _MOST_SHOWN} more" * (len(hosts) > _MOST_SHOWN)
    return f"{format_host_port(host, port)} ({', '.join(hosts[:_MOST_SHOWN])}{more})"


async def _first_to_answer(infos: Sequence[Info]) -> socket.socket:
    """Return the first connection; where all fail raise the `OSError` that tells most."""
    going: set[asyncio.Task[socket.socket]] = set()
    failures: list[OSError] = []
    left = list(infos)
    winner: asyncio.Task[socket.socket] | None = None
    try:
        while left or going:
            if left:
                going.add(asyncio.create_task(_connected(left.pop(0))))
            first, patience = asyncio.FIRST_COMPLETED, STAGGER_S if left else None
            done, _ = await asyncio.wait(going, timeout=patience, return_when=first)
            for task in done:
                if (error := task.exception()) is None:
                    winner = task
                    return task.result()
                going.discard(task)
                if not isinstance(error, OSError):
                    raise error
                failures.append(error)
    finally:
        await _drop([task for task in going if task is not winner])
    refused = [error for error in failures if error.errno == errno.ECONNREFUSED]
    raise (refused or failures or [OSError(errno.EADDRNOTAVAIL, "no address")])[0]


async def _drop(going: Sequence[asyncio.Task[socket.socket]]) -> None:
    """Drop attempts that are not wanted any more, also those that have succeeded meanwhile."""
    for task in going:
        task.cancel()
    for sock in await asyncio.gather(*going, return_exceptions=True):
        if isinstance(sock, socket.socket):
            sock.close()


async def _connected(info: Info) -> socket.socket:
    """Connect, but not by the loop's `sock_connect`: uvloop's loses an address's IPv6 zone."""
    family, kind, proto, _name, address = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        number = sock.connect_ex(address)
        if number == errno.EINPROGRESS:
            await writable(sock)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
    except BaseException:
        sock.close()
        raise
    return sock


# -- listening -------------------------------------------------------------------------------------


def listen_on(
    host: str, port: int, backlog: int, *, loopback_only: bool = False
) -> list[socket.socket]:
    """Listen on every address that a host name has here, on one port.

    Args:
        host: A name or a numeric address.
        port: TCP port; 0: one that is free on all of them.
        backlog: Connections that the kernel may hold unaccepted, per address.
        loopback_only: Refuse addresses that other hosts can reach, as there is no TLS.

    Returns:
        Non-blocking sockets, at least one, which the caller closes.

    Raises:
        UsageError: If it can't listen there, or must not.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"can't listen on {format_host_port(host, port)}: {words}") from None
    infos = list(dict.fromkeys(found))
    if loopback_only and not all(is_loopback(str(info[4][0])) for info in infos):
        raise UsageError(
            f"--listen {format_host_port(host, port)} is open to other hosts, and without TLS"
            " anybody there could read the guest or send one: give --tls DIR (pageferry certs makes"
            " it), listen on 127.0.0.1, or say --insecure"
        )
    for last in (*[False] * (_PORTS_TRIED - 1), True):
        try:
            return _bind_all(infos, port, backlog)
        except OSError as error:
            if port or last or error.errno != errno.EADDRINUSE:
                where = getattr(error, "filename", None) or format_host_port(host, port)
                words = os.strerror(error.errno) if error.errno else str(error)
                raise UsageError(f"can't listen on {where}: {words}") from None
    raise AssertionError("the last one has returned or raised")


def _bind_all(infos: Sequence[Info], port: int, backlog: int) -> list[socket.socket]:
    """Bind to all addresses; raise `OSError`, its filename the address, unless all can be had.

    Addresses that no interface has here do not matter, as long as there is another one.
    """
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, kind, proto, _name, address in infos:
            wanted = (address[0], port or _port_of(sockets), *address[2:])
            try:
                sockets.append(_bound((family, kind, proto), wanted, backlog, len(infos) > 1))
            except OSError as error:
                error.filename = format_address(wanted)
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if not sockets:
            raise missing or OSError(errno.EADDRNOTAVAIL, "no address")
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _port_of(sockets: Sequence[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1]) if sockets else 0


def _bound(
    kind: tuple[Any, Any, Any], address: SocketAddress, backlog: int, one_of_several: bool
) -> socket.socket:
    sock = socket.socket(*kind)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind[0] == socket.AF_INET6 and one_of_several:  # or it would take IPv4's port, too
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
