"""Credentials for mutual TLS 1.3: both ends show a certificate of one CA.

The source checks the destination's name, too. A folder holds what an end needs, under the names
that QEMU's tls-creds-x509 has for them:

    ca-cert.pem                            whom to believe
    server-cert.pem, server-key.pem        what a destination shows
    client-cert.pem, client-key.pem        what a source shows
"""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pageferry.common.errors import UsageError
from pageferry.common.files.input_files import open_file, read_whole
from pageferry.common.process.notices import notify_once
from pageferry.common.wire.certificate_names import certified, quoted_name
from pageferry.common.wire.validity import out_of_time

CA: Final = "ca-cert.pem"
SERVER: Final = ("server-cert.pem", "server-key.pem")
CLIENT: Final = ("client-cert.pem", "client-key.pem")
_MOST_PEM: Final = 1 << 20  # a bundle of every CA that a system trusts has a quarter of it
_OPEN_FILES: Final = Path("/proc/self/fd")


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
        raise UsageError(f"--tls-hostname {quoted_name(text)}: {error}") from None


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
            notify_once(f"--tls {folder}: {problem}")
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
