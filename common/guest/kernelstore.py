r"""Compiled kernels on disk: one file per function and signature, trusted only if it is intact.

What is read here is code that this process will run. So a file counts only if it belongs to this
user or to root and nobody else may write it, if it is complete (a digest proves that), and if it is
what was asked for: it contains the key that it was written for.

numba's own cache numbers the code of a function's signatures and keeps an index of the numbers.
Processes that compile at the same time overwrite each other's files, and can leave an index that
gives one signature the code of another (seen with numba 0.68.1). Here nothing is shared: a file's
name follows from its key, and the file is put in place as a whole. Whoever comes second replaces it
with the same code.

    "pageferry kernel 1\n"   16 bytes: XXH3-128 of what follows
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

from pageferry.common.process.notices import notify_once

_MAGIC: Final = b"pageferry kernel 1\n"
_DIGEST: Final = 16
_LENGTH: Final = 8
_MOST: Final = 64 << 20  # bytes of a file: kernels take some 100 KB


class DamagedKernel(Exception):
    """A file that exists but can't be used; the message says why."""


class KernelStore:
    """The place where compiled kernels are read from and kept.

    Args:
        readable: Folders to look in, in this order. They need not all be writable.
        writable: The one of them that kernels are saved to; None: nothing can be kept.

    Attributes:
        readable: As given.
        writable: As given.
    """

    def __init__(self, readable: tuple[Path, ...], writable: Path | None) -> None:
        self.readable = readable
        self.writable = writable

    @property
    def folder(self) -> Path | None:
        """The writable folder, else the first readable one; None: there is none."""
        return self.writable or next(iter(self.readable), None)

    def load(self, name: str, key: str) -> bytes | None:
        """Load the code that was kept for a key.

        A damaged file is reported to the user, once per process, and counts as missing.

        Args:
            name: The function's module and qualified name; a part of the file's name.
            key: All that the code depends on; only a file that contains exactly this key is used.

        Returns:
            The code, or None if no folder has a usable file.
        """
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
        """Check whether any function of a module has code in the store.

        Args:
            module: The module's full name. Only file names are looked at, not whether a file is
                usable.

        Returns:
            Whether a file was found.
        """
        start = f"{module}."
        for folder in self.readable:
            with contextlib.suppress(OSError):
                if any(file.startswith(start) for file in os.listdir(folder)):
                    return True
        return False

    def damaged(self, name: str, key: str, why: str) -> None:
        """Report that a stored kernel can't be used.

        The kernel is compiled anew, and saving that replaces the bad file. Nothing is reported
        where no folder has such a file.

        Args:
            name: The function's name, as for `load`.
            key: The key that was asked for.
            why: The rest of the sentence "a compiled kernel in FOLDER ...".
        """
        for folder in self.readable:
            if os.path.exists(folder / _file_name(name, key)):  # False where it can't be looked at
                lasts = "" if folder == self.writable else ", at every start: it can't be replaced"
                notify_once(f"a compiled kernel in {folder} {why}: it is compiled anew{lasts}")
                return

    def save(self, name: str, key: str, code: bytes) -> None:
        """Keep a kernel for later processes; where that fails, the user is told once.

        Args:
            name: The function's name, as for `load`.
            key: All that the code depends on.
            code: What `load` is to return for this key, of any content.
        """
        if self.writable is None:
            notify_once("compiled kernels can't be kept, no folder for them can be written to")
            return
        try:
            _write(self.writable / _file_name(name, key), key, code)
        except OSError as error:
            notify_once(f"compiled kernels can't be kept in {self.writable}: {error.strerror}")


def trusted(found: os.stat_result, *, ours: bool = False) -> bool:
    """Check that nobody but this user and root could have written a file or put one in a folder.

    Args:
        found: The `stat` of the file or folder itself, not of a link to it.
        ours: Accept only this user as the owner, not root.

    Returns:
        Whether the owner is right and neither group nor others may write.
    """
    owners = {os.geteuid()} if ours else {os.geteuid(), 0}
    return found.st_uid in owners and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _file_name(name: str, key: str) -> str:
    return f"{name[-100:]}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def _read(path: Path, key: str) -> bytes:
    """Read a file and check that it is trusted, complete and of that key.

    Raises:
        OSError: It can't be opened or read.
        DamagedKernel: It can't be used.
    """
    # Neither hang on a pipe that somebody put there nor follow a link.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        found = os.fstat(fd)  # of what was opened, whatever the name refers to by now
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
    """Write a file completely or not at all, even if several processes do so. Raises `OSError`."""
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
