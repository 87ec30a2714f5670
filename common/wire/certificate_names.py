"""Names of hosts as a certificate has them (RFC 5280, 4.2.1.6), and as a source compares them.

A name that is written into a certificate must be one that a source can ask for: `certified` gives
the one form of it, or says why there is none. `name_to_verify` makes the same of what somebody
connects to.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Final

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LONGEST: Final = 253  # RFC 1035, without the dot at the end
_SHOWN: Final = 60

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def certified(text: str, *, wildcard: bool = False) -> str | Address:
    """Return the form in which a certificate has a name or an address.

    Args:
        text: As a person gave it; IPv6 may stand in brackets, as in HOST:PORT.
        wildcard: `*` may be the first label if two others follow, since OpenSSL matches no fewer.

    Returns:
        A name in lower case and ASCII, or an address.

    Raises:
        ValueError: With what is wrong with it, for people.
    """
    if not text:
        raise ValueError("it is empty")
    if not text.isprintable() or any(each.isspace() for each in text):
        raise ValueError("it has a blank or a character that can't be printed")
    if "://" in text or "/" in text or "@" in text:
        raise ValueError("expected a host alone, without scheme, user, prefix or path")
    if text.startswith("["):
        inner, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")) or ":" not in inner:
            raise ValueError("in brackets stands an IPv6 address, as in [fd00::2]")
        if port:
            raise ValueError(f"leave the port out, as in [{inner}]")
        text = inner
    return _address(text) or _name(text, wildcard)


def _address(text: str) -> Address | None:
    plain, percent, _ = text.partition("%")
    try:
        address = ipaddress.ip_address(plain)
    except ValueError:
        return None
    if percent:
        raise ValueError(f"a zone means something on one host only: expected {plain}")
    if address.is_unspecified or address.is_multicast:
        raise ValueError("nobody connects to that address: expected one of the host's own")
    return address


def _name(text: str, wildcard: bool) -> str:
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and ":" not in host:
        raise ValueError(f"leave the port out, as in {host}")
    if colon:
        raise ValueError("it is neither a name nor an IPv6 address")
    try:
        ascii_ = text.lower().encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError("a part between dots is empty, or longer than 63") from None
    labels = ascii_.removesuffix(".").split(".")
    if wildcard and labels[0] == "*" and len(labels) >= 3:
        labels = labels[1:]
    elif "*" in ascii_:
        raise ValueError(
            "* stands for one first part before two others, as in *.lab.example, and after a name"
        )
    if len(ascii_) > _LONGEST + 1 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            f"expected letters, digits and - between dots, up to 63 each and {_LONGEST} in all"
        )
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        raise ValueError("it ends in a number, as only addresses do, and is none")
    return ascii_.removesuffix(".")


def name_to_verify(host: str) -> str:
    """Return what a source looks for in the certificate of a host; never fails.

    Args:
        host: The name or address that it connects to, perhaps with brackets or an IPv6 zone.

    Returns:
        Without those, and in ASCII where that is possible.
    """
    plain = host.strip("[]").partition("%")[0]
    with contextlib.suppress(UnicodeError):
        plain = plain.encode("idna").decode("ascii")  # as ssl does, and a dot may be another one
    return plain.removesuffix(".")


def quoted_name(text: str) -> str:
    """Return a text for a message: in quotes, and of bounded length.

    Args:
        text: Anything that a person gave.

    Returns:
        All of it, or its first 40 characters and how many there are.
    """
    return repr(text) if len(text) <= _SHOWN else f"{text[:40]!r}... ({len(text)} characters)"
