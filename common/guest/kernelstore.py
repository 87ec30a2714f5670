"""Compiled kernels on disk: one file for each function and signature, believed only if it is whole.

What is read here is code that this process will run. So a file counts only if it belongs to this
user or to root and nobody else may write it, if all of it is there (a digest says so), and if it is
what was asked for: the key that it was written for stands in it.

numba's own cache numbers the code of a function's signatures and keeps an index of the numbers.
Processes that compile at once then write over one another's files, and an index may be left that
gives one signature the code of another one (seen with numba 0.68.1). Here nothing is shared: the
name of a file follows from its key, and it is put in place whole. Whoever comes second replaces it
by the same code.

    "pageferry kernel 1\\n"   16 bytes: XXH3-128 of what follows
    length of the key, 8 bytes, little-endian      the key, UTF-8      the code
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

import xxhash

from pageferry.common.process.notices import notice

_MAGIC: Final = b"pageferry kernel 1\n"
_DIGEST: Final = 16
_LENGTH: Final = 8
_MOST: Final = 64 << 20  # bytes of a file: kernels have some 100 KB


class DamagedKernel(Exception):
    """A file that is there and can't be used; says why."""


class KernelStore:
    """Where compiled kernels are read and kept.

    readable: folders, in which order they are looked at. writable: one of them, or None where
    nothing can be kept.
    """

    def __init__(self, readable: tuple[Path, ...], writable: Path | None) -> None:
        self.readable = readable
        self.writable = writable

    @property
    def folder(self) -> Path | None:
        """The one that is used most; None: there is none."""
        return self.writable or next(iter(self.readable), None)

    def load(self, name: str, key: str) -> bytes | None:
        """The code that was kept for that key, or None; what is damaged is said, once."""
        for folder in self.readable:
            path = folder / _file_name(name, key)
            try:
                return _read(path, key)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.damaged(name, key, error.strerror or "can't be read")
            except DamagedKernel as error:
                self.damaged(name, key, str(error))
        return None

    def has_any_of(self, module: str) -> bool:
        """Whether the code of any function of that module was kept."""
        start = f"{module}."
        for folder in self.readable:
            with contextlib.suppress(OSError):
                if any(file.startswith(start) for file in os.listdir(folder)):
                    return True
        return False

    def damaged(self, name: str, key: str, why: str) -> None:
        """Say it of what was loaded; it is compiled anew, and what is saved then replaces it."""
        for folder in self.readable:
            if os.path.exists(folder / _file_name(name, key)):  # not where it is hidden
                lasts = "" if folder == self.writable else ", at every start: it can't be replaced"
                notice(f"a compiled kernel in {folder} {why}: it is compiled anew{lasts}")
                return

    def save(self, name: str, key: str, code: bytes) -> None:
        """Keep it for later processes; where that can't be, it is said, once."""
        if self.writable is None:
            notice("compiled kernels can't be kept, no folder for them can be written to")
            return
        try:
            _write(self.writable / _file_name(name, key), key, code)
        except OSError as error:
            notice(f"compiled kernels can't be kept in {self.writable}: {error.strerror}")


def trusted(found: os.stat_result, *, ours: bool = False) -> bool:
    """Whether nobody but this user and root could have written it. ours: nor root."""
    owners = {os.geteuid()} if ours else {os.geteuid(), 0}
    return found.st_uid in owners and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _file_name(name: str, key: str) -> str:
    return f"{name[-100:]}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def _read(path: Path, key: str) -> bytes:
    """Raises `OSError` and `DamagedKernel`."""
    # Not to hang on a pipe that somebody has put there, nor to follow a link.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        found = os.fstat(fd)  # of what has been opened, whatever the name means by now
        if not stat.S_ISREG(found.st_mode) or not trusted(found):
            raise DamagedKernel("could have been written by others")
        if found.st_size > _MOST:
            raise DamagedKernel("is too long")
        data = file.read()
    start = len(_MAGIC) + _DIGEST
    if not data.startswith(_MAGIC) or len(data) < start + _LENGTH:
        raise DamagedKernel("is not one" if data else "is empty")
    body = memoryview(data)[start:]
    if xxhash.xxh3_128_digest(body) != data[len(_MAGIC) : start]:
        raise DamagedKernel("is not what was written")
    length = int.from_bytes(body[:_LENGTH], "little")
    if bytes(body[_LENGTH : _LENGTH + length]) != key.encode():
        raise DamagedKernel("is of another function or signature")
    return bytes(body[_LENGTH + length :])


def _write(path: Path, key: str, code: bytes) -> None:
    """Whole or not at all, also where several processes do. Raises `OSError`."""
    encoded = key.encode()
    body = b"".join((len(encoded).to_bytes(_LENGTH, "little"), encoded, code))
    draft = path.with_name(f".{secrets.token_hex(8)}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(_MAGIC + xxhash.xxh3_128_digest(body))
            file.write(body)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
