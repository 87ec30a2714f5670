"""HOST:PORT as people write it."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from pageferry.common.errors import UsageError


def parse_candidates(text: str) -> list[tuple[str, int | None]]:
    """Parse `HOST[:PORT],...`, the value of `--recover-to`.

    Args:
        text: Addresses with commas between them; empty: none.

    Returns:
        (host, port) of each, in order, the host without brackets; a port of None: none was written.

    Raises:
        UsageError: One of them is no address.
    """
    return [_candidate(part) for part in text.split(",")] if text else []


def _candidate(text: str) -> tuple[str, int | None]:
    """Parse one `HOST[:PORT]`; an IPv6 address without a port needs no brackets."""
    host, colon, _ = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.endswith("]")):
        # No port, or an IPv6 address without one, which may stand without brackets here.
        bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        _check_host(bare, f"--recover-to: {_quoted(text)}", bracketed=":" in bare)
        return bare, None
    return parse_address(text, "--recover-to")


def checked_candidates(text: str) -> str:
    """Check a `--recover-to`, and return it as it was written.

    Args:
        text: As for `parse_candidates`.

    Returns:
        The same text.

    Raises:
        ValueError: It names no addresses; the message is without the option's name.
    """
    try:
        parse_candidates(text)
    except UsageError as error:
        raise ValueError(str(error).removeprefix("--recover-to: ")) from None
    return text


_LONGEST_HOST = 253  # characters of a name in DNS

# As QEMU, libvirt and browsers write addresses; nothing that may be IPv6 (`fd:` could be).
_SCHEME: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://"
    r"|(tcp[46]?|udp|tls|ssl|unix|rdma|exec|file|vsock|ssh|https?|socket|pageferry|qemu):(?=.*:|.*/)",
    re.IGNORECASE,
)


def parse_address(text: str, option: str) -> tuple[str, int]:
    """Parse `HOST:PORT` or `[v6]:PORT`.

    Args:
        text: The address.
        option: Whose value it is, for the message. Only `--listen` takes port 0, which stands for a
            free port.

    Returns:
        Host, without brackets, and port. The name is not resolved.

    Raises:
        UsageError: It is no address.
    """
    shown = f"{option}: {_quoted(text)}"
    if scheme := _SCHEME.match(text):
        raise UsageError(
            f"{shown} is not an address: expected HOST:PORT without {scheme[0]!r}, as in"
            " 127.0.0.1:4444"
        )
    host, _, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    least = 0 if option == "--listen" else 1
    if not (host and len(port_text) <= 5 and port_text.isascii() and port_text.isdigit()) or not (
        least <= int(port_text) <= 65535
    ):
        raise UsageError(
            f"{shown} is not an address: expected HOST:PORT, PORT from {least} to 65535, as in"
            " 127.0.0.1:4444"
        )
    _check_host(host, shown, bracketed=bracketed)
    if ":" in host and not bracketed:
        raise UsageError(
            f"{shown} can be read in two ways: write [{host}]:{port_text} where {port_text} is"
            f" the port, or [{text}]:4444 where it is a part of the address"
        )
    return host, int(port_text)


def _quoted(text: str) -> str:
    """Quote a text for a message, cut off where it is long."""
    return repr(text) if len(text) <= 80 else f"{text[:40]!r}... ({len(text)} characters)"


def _check_host(host: str, shown: str, *, bracketed: bool) -> None:
    """Raise `UsageError` where this can't be a host's name or address."""
    if len(host) > _LONGEST_HOST:
        raise UsageError(
            f"{shown} is not an address: expected a HOST of at most {_LONGEST_HOST} characters"
        )
    try:
        host.encode("idna")  # as the resolver will
        named = bool(host) and host.isprintable() and not set(host) & set(" /@,;")
    except UnicodeError:
        named = False
    if not named:
        raise UsageError(f"{shown} is not an address: expected the name of a host as HOST")
    if bracketed or ":" in host:
        try:
            address = ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise UsageError(f"{shown} is not an address: write IPv6 as [::1]:4444") from None
        if address.is_link_local and "%" not in host:
            raise UsageError(
                f"{shown} is not an address: a link-local one needs its interface, as in"
                f" [{host}%eth0]:4444"
            )
