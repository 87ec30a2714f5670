"""A text that may be compressed, as a stream: its first bytes tell how, its name never does.

Memory stays bounded whatever the file says of itself: no more than a block is unpacked at once, and
a file that asks for a larger window than `MOST_WINDOW` is refused. Whatever is wrong with a file
raises `PackedError`, one line without the file's name.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Final, Protocol

import zstandard
from lz4 import frame as lz4_frame

BLOCK: Final = 1 << 20  # bytes that are handed out at once
MOST_WINDOW: Final = 1 << 28  # bytes: `xz -9` needs 65 MiB, `zstd --ultra -22` 128 MiB

_MAGIC_BYTES: Final = 6  # enough to tell all kinds apart

# A zstd frame can turn four bytes into 128 KiB, and its library unpacks all that it is given: so
# few bytes at once become 16 MiB at the most.
_ZSTD_BITE: Final = 1 << 9
_SKIPPABLE: Final = range(0x50, 0x60)  # zstd's and lz4's frames without content: 5? 2a 4d 18
_TOO_MUCH: Final = ("memory", "window")  # words of libraries about a window that is too large


class PackedError(Exception):
    """A compressed file that can't be unpacked, and why."""


class _Unpacker(Protocol):
    """One frame, as the standard library's decompressors are used."""

    @property
    def eof(self) -> bool:
        """Whether its end has been reached."""
        ...

    @property
    def unused_data(self) -> bytes | None:
        """What came behind the end."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether all that it was given has been handed out."""
        ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Unpack more of it."""
        ...


class _Zstd:
    """`_Unpacker` of zstandard, which hands everything out at once."""

    def __init__(self) -> None:
        self._frame: Any = zstandard.ZstdDecompressor(max_window_size=MOST_WINDOW).decompressobj()
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """See `_Unpacker`."""
        return bool(self._frame.eof)

    @property
    def unused_data(self) -> bytes | None:
        """See `_Unpacker`."""
        return bytes(self._frame.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Unpack all of `data`: small pieces of it are what bounds the output, not `max_length`."""
        del max_length
        return bytes(self._frame.decompress(data))


class _Again:
    """A pipe from its beginning: what was read already comes once more."""

    def __init__(self, start: bytes, file: IO[bytes]) -> None:
        self._start = start
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Read as from any file."""
        if self._start:
            start, self._start = self._start[:size], self._start[size:]
            return start
        return self._file.read(size)

    def seekable(self) -> bool:
        """Return False."""
        return False


def unpacked(opened: IO[bytes]) -> Iterator[bytes]:
    """Read all of a file, unpacked where it is compressed.

    Args:
        opened: At its beginning. It stays open.

    Yields:
        Blocks of at most `BLOCK` bytes; of zstd, up to 16 times that.

    Raises:
        PackedError: It is damaged, encrypted, cut off, or wants too much memory.
        OSError: Of the file itself.
    """
    start = opened.read(_MAGIC_BYTES)
    kind = _kind(start)
    file: Any = opened
    if opened.seekable():
        opened.seek(-len(start), io.SEEK_CUR)
    else:
        file = _Again(start, opened)
    if kind is None:
        while block := file.read(BLOCK):
            yield block
        return
    try:
        yield from _READERS[kind](file)
    except EOFError:
        raise PackedError(f"the {kind} file ends too early: was it cut off?") from None
    except zipfile.LargeZipFile as error:
        raise PackedError(f"the zip file is too large: {error}") from None
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PackedError(_damage(kind, str(error))) from None


_DAMAGED: Final = (
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    zipfile.BadZipFile,
    RuntimeError,  # lz4's; zipfile's, for a password
    NotImplementedError,
)


def _damage(kind: str, why: str) -> str:
    if "password" in why:
        return f"the {kind} file is encrypted: unpack it first"
    if any(word in why.lower() for word in _TOO_MUCH):
        return f"the {kind} file wants more than {MOST_WINDOW >> 20} MiB of memory: unpack it first"
    if kind == "zip":
        return f"the zip file is damaged, or ends too early: {why}"
    return f"the {kind} file is damaged: {why}"


def _kind(magic: bytes) -> str | None:
    if magic[1:4] == b"\x2a\x4d\x18" and magic[0] in _SKIPPABLE:
        return "zstd"
    return next((kind for start, kind in _MAGIC if magic.startswith(start)), None)


def _gzip(file: IO[bytes]) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as inner:
        while block := inner.read(BLOCK):
            yield block


def _frames(make: Callable[[], _Unpacker], bite: int) -> Callable[[IO[bytes]], Iterator[bytes]]:
    """Make a reader of one frame after another, which is given `bite` bytes at once.

    Zeros between frames only pad: xz and tape drives fill up with them.
    """

    def read(file: IO[bytes]) -> Iterator[bytes]:
        data = file.read(bite)
        while data:
            frame = make()
            while not frame.eof:
                if out := frame.decompress(data, max_length=BLOCK):
                    yield out
                data = b""
                if not frame.eof and frame.needs_input:
                    data = file.read(bite)
                    if not data:
                        raise EOFError
            data = (frame.unused_data or b"").lstrip(b"\0")
            while not data and (more := file.read(bite)):
                data = more.lstrip(b"\0")

    return read


def _zip(file: IO[bytes]) -> Iterator[bytes]:
    """Read the one file of an archive. Its directory is at its end: a pipe will not do."""
    if not file.seekable():
        raise PackedError("a zip file can't be read from a pipe: expected a file, or 'unzip -p'")
    with contextlib.closing(zipfile.ZipFile(file)) as archive:
        members = [each for each in archive.infolist() if not _is_beside(each)]
        if len(members) != 1:
            raise PackedError(f"the zip file has {len(members)} files: expected one")
        with archive.open(members[0]) as inner:
            while block := inner.read(BLOCK):
                yield block


def _is_beside(member: zipfile.ZipInfo) -> bool:
    """Tell whether it is a folder, or the attributes that macOS puts beside each file."""
    return member.is_dir() or member.filename.startswith("__MACOSX/")


_READERS: Final[dict[str, Callable[[IO[bytes]], Iterator[bytes]]]] = {
    "gzip": _gzip,
    "bzip2": _frames(bz2.BZ2Decompressor, BLOCK),
    "xz": _frames(lambda: lzma.LZMADecompressor(memlimit=MOST_WINDOW), BLOCK),
    "lzma": _frames(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MOST_WINDOW), BLOCK),
    "zstd": _frames(_Zstd, _ZSTD_BITE),
    "lz4": _frames(lz4_frame.LZ4FrameDecompressor, BLOCK),
    "zip": _zip,
}
_MAGIC: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),  # its usual properties and window; it has no magic of its own
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),  # an empty one
)
