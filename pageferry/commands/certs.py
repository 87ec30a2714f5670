"""`pageferry certs`: a CA, and a folder of credentials for each host, for mutual TLS."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from pageferry.certificates.authority import (
    Signer,
    key_pem,
    make_host,
    make_signer,
    pem,
    read_signer,
)
from pageferry.common.command_line.libraries import require_library
from pageferry.common.errors import EXIT_OK, UsageError
from pageferry.common.files.output_pipe import write_all
from pageferry.common.files.report_files import need_folder
from pageferry.common.wire.certificate_names import certified, quoted_name
from pageferry.common.wire.tls_credentials import CA, CLIENT, SERVER

_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_CA_KEY: Final = "ca-key.pem"


def certs(
    folder: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    host: Annotated[list[str] | None, Parameter(negative="")] = None,
    renew: Annotated[bool, Parameter(negative="")] = False,
    force: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Make a CA and credentials of two hosts, for --tls; or add hosts to a CA that is in DIR.

    Without --host the folders are `source` and `dest`, and good for this machine (localhost). Each
    holds certificates for either end under the names that QEMU uses, and can be given as --tls DIR.

    Args:
        folder: Where the folders are made; the CA's own key stays here. If there is a CA already,
            it signs for the named hosts, and other hosts' folders stay as they are.
        host: NAME[,NAME|IP...]: a host, as others call it. Each gets a folder, named after the
            first of its names.
        renew: Make a new key and certificate, from the same CA, for hosts that are there already.
        force: Replace what is there, the CA too: every host then needs its new folder.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: A name is wrong, something is there already, or DIR cannot be used.
    """
    require_library("pageferry certs", "cryptography")
    if renew and (force or not host):
        raise UsageError("--renew keeps the CA, and needs --host with each host that is meant")
    hosts = [_names(text) for text in host or []]
    named = {names[0]: names for names in hosts}
    if len(named) < len(hosts):
        raise UsageError("--host: the first name of each must be another one")
    try:
        found = None if force else _found(folder, renew=renew)
        if found is not None and not named:
            raise UsageError(
                f"{folder / _CA_KEY} is there already: --host adds a host, another DIR, or --force"
                " replaces all"
            )
        named = named or {"source": ("source", *_LOCAL), "dest": ("dest", *_LOCAL)}
        _make(folder, named, found, renew=renew, force=force)
    except OSError as error:
        raise UsageError(f"can't write {error.filename}: {error.strerror}") from None
    _explain(folder, named, old=found is not None)
    return EXIT_OK


def _names(text: str) -> tuple[str, ...]:
    """Split and check the names of a host; its folder is called like the first."""
    names: dict[str, None] = {}
    for number, each in enumerate(text.split(",")):
        try:
            name = str(certified(each, wildcard=number > 0))
        except ValueError as error:
            which = "" if each == text else f" {quoted_name(each)}:"
            raise UsageError(
                f"--host {quoted_name(text)}:{which} {error} (expected NAME[,NAME|IP...])"
            ) from None
        names[name] = None
    first = next(iter(names))
    if first in (_CA_KEY, CA):
        raise UsageError(f"--host {first}: that is what a file of the CA is called")
    return tuple(names)


def _found(folder: Path, *, renew: bool) -> Signer | None:
    """Read the CA that is there, if any. Raises `OSError`, and `UsageError` if it is unusable."""
    key, certificate = folder / _CA_KEY, folder / CA
    there = [path for path in (key, certificate) if path.exists() or path.is_symlink()]
    if not there:
        if renew:
            raise UsageError(f"--renew: there is no CA in {folder}")
        return None
    other = "another DIR, or --force to replace it"
    if len(there) < 2 or not all(path.is_file() for path in there):
        missing = CA if key in there else _CA_KEY
        raise UsageError(f"{there[0]} is there already, without {missing}: {other}")
    if mode := stat.S_IMODE(key.stat().st_mode) & 0o077:
        raise UsageError(f"others may use {key} (mode {0o600 | mode:04o}): chmod 600 {key}")
    try:
        return read_signer(key, certificate)
    except ValueError as error:
        raise UsageError(f"{key} is there already, and can't sign: {error}: {other}") from None


def _make(
    folder: Path,
    hosts: dict[str, tuple[str, ...]],
    found: Signer | None,
    *,
    renew: bool,
    force: bool,
) -> None:
    files = [] if found else [folder / _CA_KEY, folder / CA]
    for name in hosts:
        files += [folder / name / file for file in (CA, *SERVER, *CLIENT)]
    there = [path for path in files if path.exists() or path.is_symlink()]
    if there and not (force or renew):
        raise UsageError(
            f"{there[0]} is there already: --renew for a new one of the same CA, another DIR, or"
            " --force to replace the CA, too"
        )
    for path in (folder, *(folder / name for name in hosts)):
        need_folder(path, "DIR")
    made = _contents(folder, hosts, found)
    for path in there:
        path.unlink()
    written: list[Path] = []
    try:
        for path, (data, mode) in made.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(path, data, mode, written)
    except OSError:
        for path in written:  # half a set is no use, and would be in the way of the next
            path.unlink()
        raise


def _contents(
    folder: Path, hosts: dict[str, tuple[str, ...]], found: Signer | None
) -> dict[Path, tuple[bytes, int]]:
    """Make the content and the mode of every file, before any of them is written."""
    signer = found or make_signer()
    own = pem(signer.certificate)
    made: dict[Path, tuple[bytes, int]] = {}
    if found is None:
        made[folder / _CA_KEY] = (key_pem(signer.key), 0o600)
        made[folder / CA] = (own, 0o644)
    for name, names in hosts.items():
        made[folder / name / CA] = (own, 0o644)
        certificate, key = make_host(names, signer)
        for file, key_file in (SERVER, CLIENT):
            made[folder / name / file] = (certificate, 0o644)
            made[folder / name / key_file] = (key, 0o600)
    return made


def _write(path: Path, data: bytes, mode: int, written: list[Path]) -> None:
    """Write a new file, noted in `written`; fail on one that somebody else made meanwhile."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        written.append(path)
        try:
            write_all(fd, data)
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _explain(folder: Path, hosts: dict[str, tuple[str, ...]], *, old: bool) -> None:
    if old:
        print(f"CA: {folder}/{_CA_KEY}, as it was; what is there of other hosts, too")
    else:
        print(
            f"CA: {folder}/{_CA_KEY} makes further hosts' certificates (pageferry certs {folder}"
            " --host NAME): keep it, and copy it nowhere"
        )
    for name, names in hosts.items():
        print(f"{folder / name}: for the host that is called {', '.join(names)}")
    print(
        "Copy each folder to its host (scp -rp), and give it there:\n"
        "  pageferry dest --listen HOST:PORT --tls DIR\n"
        "  pageferry source --to HOST:PORT --tls DIR"
    )
