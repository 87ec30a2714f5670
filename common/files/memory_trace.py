"""Memory traces as files: what `pageferry trace import` writes and the workload `trace` replays.

A trace is a NumPy archive, so that `numpy.load(FILE)` opens it anywhere. It has two members, stored
without compression:

    accesses.npy   uint32[n], little-endian, its data aligned to 64 bytes in the file:
                   bit 31 .. 7: page, bit 6 .. 1: 64-byte line of that page, bit 0: a write
    meta.json      the fields of `TraceMeta`, UTF-8

Pages are numbered from 0 without gaps, in order of their addresses in the traced program: every
number below `pages` occurs. `digest` is XXH3-128 of the accesses' bytes, hexadecimal; it is what
two hosts compare. The array is mapped, not read: agents on one host share one copy of it, and its
length is bounded by the disk. A file of another version is refused; a reader of version 1 knows
exactly these members and fields.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Annotated, Final, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pageferry.common.errors import UsageError
from pageferry.common.files.input_files import parse_json

VERSION: Final = 1
PAGE_SHIFT: Final = 7
LINE_SHIFT: Final = 1
MAX_PAGES: Final = 2 ** (32 - PAGE_SHIFT)  # 128 GiB of pages that a program has touched

_ACCESSES: Final = "accesses.npy"
_META: Final = "meta.json"
_META_BYTES: Final = 1 << 16
_ALIGNMENT: Final = 64
_CHUNK: Final = 1 << 20  # accesses looked at in one go
# A ZIP file's local header, see APPNOTE.TXT 4.3.7.
_LOCAL_HEADER: Final = struct.Struct("<4s5H3L2H")
_ZIP64_EXTRA: Final = 20  # bytes that zipfile adds for sizes that may not fit in 32 bits
_PADDING_ID: Final = 0xD935  # an extra field that only aligns what follows, as Android's zipalign


class TraceMeta(BaseModel):
    """What a trace's file says of it.

    Attributes:
        format: Always the same, to recognise the file.
        version: Of the format.
        accesses: How many there are, reads and writes.
        reads: How many of them are reads.
        writes: How many of them are writes.
        pages: How many different pages are accessed.
        instructions: Whether instruction fetches are among the reads.
        source: The name of the text that the trace was made of.
        digest: XXH3-128 of the accesses' bytes, 32 hexadecimal digits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["pageferry-trace"] = "pageferry-trace"
    version: Literal[1] = VERSION
    accesses: int = Field(ge=1, le=2**60)
    reads: int = Field(ge=0)
    writes: int = Field(ge=0)
    pages: int = Field(ge=1, le=MAX_PAGES)
    instructions: bool = Field(description="whether instruction fetches are among the reads")
    source: str = Field(max_length=255)
    digest: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


@dataclass(frozen=True)
class MemoryTrace:
    """A trace's file, mapped.

    Neither array is to be written to, though numpy would do it (to a private copy): they are not
    marked read-only, as numba compiles another kernel for arrays that are.

    Attributes:
        name: The file's, as it was given.
        meta: What the file says of the trace.
        accesses: uint32[n], as the module describes them.
        words: The same memory as uint64[(n + 1) // 2].
    """

    name: str
    meta: TraceMeta
    accesses: NDArray[np.uint32]
    words: NDArray[np.uint64]

    def verify(self) -> None:
        """Read the whole trace once, and compare it with its meta data.

        Raises:
            UsageError: Its content is not what its meta data say.
        """
        hasher = xxhash.xxh3_128()
        highest, writes = 0, 0
        for first in range(0, self.meta.accesses, _CHUNK):
            part = self.accesses[first : first + _CHUNK]
            hasher.update(part.data)
            highest = max(highest, int(part.max()))
            writes += int(np.count_nonzero(part & np.uint32(1)))
        if hasher.hexdigest() != self.meta.digest:
            raise _damaged(self.name, "its accesses are not those that were written")
        # These hold for everything that `write_trace` wrote. A kernel relies on the first.
        if highest >> PAGE_SHIFT != self.meta.pages - 1:
            raise _damaged(self.name, "its pages are not those that its accesses touch")
        if (writes, self.meta.accesses - writes) != (self.meta.writes, self.meta.reads):
            raise _damaged(self.name, "its reads and writes are not those of its accesses")


def open_trace(name: str) -> MemoryTrace:
    """Map a trace's file; `MemoryTrace.verify` looks at its content.

    Args:
        name: Its path, which may have come over the network.

    Returns:
        The trace; its memory is unmapped with the last array that uses it.

    Raises:
        UsageError: It can't be read, or is no trace of this version.
    """
    try:
        # Don't wait for a pipe's other end: the name may have come over the network.
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise UsageError(f"trace {name!r} can't be read: {why}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UsageError(f"trace {name!r} can't be read: not a regular file")
        with open(fd, "rb", closefd=False) as file:
            return _map(name, file)
    except OSError as error:
        raise UsageError(f"trace {name!r} can't be read: {error.strerror or error}") from None
    except (ValueError, zipfile.BadZipFile, NotImplementedError, struct.error):
        raise _foreign(name) from None
    finally:
        os.close(fd)


def _map(name: str, file: IO[bytes]) -> MemoryTrace:
    """Map the accesses of an open archive."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if set(members) != {_ACCESSES, _META} or len(archive.infolist()) != len(members):
            raise _foreign(name)
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise _damaged(name, "it is compressed")
        meta = _read_meta(name, archive, members[_META])
    first = _find_accesses(name, file, members[_ACCESSES], meta)
    mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE)
    # The last word of an odd trace reaches into the archive's directory, which is always there.
    words = np.frombuffer(mapped, np.uint64, (meta.accesses + 1) // 2, first)
    return MemoryTrace(name, meta, words.view(np.uint32)[: meta.accesses], words)


def _read_meta(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> TraceMeta:
    """Read and check the meta data."""
    if info.file_size > _META_BYTES:
        raise _damaged(name, "its meta data are too long")
    try:
        fields = parse_json(archive.read(info), f"its {_META}")
    except UsageError as error:
        raise _damaged(name, str(error)) from None
    # RuntimeError: it asks for a password. EOFError: it is cut off.
    except (RuntimeError, EOFError, zipfile.BadZipFile):
        raise _damaged(name, "its meta data can't be read") from None
    version = fields.get("version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version != VERSION:
        raise UsageError(f"trace {name!r} has version {version}, expected {VERSION}")
    try:
        return TraceMeta.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _damaged(name, f"its meta data at {where}: {first['msg']}") from None


def _find_accesses(name: str, file: IO[bytes], info: zipfile.ZipInfo, meta: TraceMeta) -> int:
    """Find the offset in the file at which the array's data begin."""
    file.seek(info.header_offset)
    header = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    file.seek(sum(header[-2:]), os.SEEK_CUR)
    expected = _array_header(meta.accesses)
    if file.read(len(expected)) != expected or file.tell() % _ALIGNMENT:
        raise _damaged(name, f"{_ACCESSES} does not begin as uint32[{meta.accesses}], aligned")
    first, size = file.tell(), 4 * meta.accesses
    if info.file_size != len(expected) + size or first + size >= os.fstat(file.fileno()).st_size:
        raise _damaged(name, f"{_ACCESSES} has another length")
    return first


def _array_header(accesses: int) -> bytes:
    """Make the header of the array's member, 128 bytes: the NPY format, version 1.0.

    Numpy's own header is padded differently from release to release, and its parser accepts more
    than can be trusted.
    """
    text = f"{{'descr': '<u4', 'fortran_order': False, 'shape': ({accesses},), }}"
    return struct.pack("<8sH118s", b"\x93NUMPY\1\0", 118, text.ljust(117).encode() + b"\n")


def write_trace(
    file: IO[bytes],
    chunks: Iterable[NDArray[np.uint32]],
    *,
    accesses: int,
    instructions: bool,
    source: str,
) -> TraceMeta:
    """Write a trace. The same accesses always make the same bytes.

    Args:
        file: Open for writing, at its beginning; stays open.
        chunks: uint32[any] each, as the module describes accesses.
        accesses: How many there are in all chunks together.
        instructions: Whether instruction fetches are among the reads.
        source: The name of the text that the trace is made of, at most 255 characters.

    Returns:
        The meta data that were written.

    Raises:
        ValueError: There is another number of accesses, or a page number does not occur.
    """
    hasher, pages, writes, left = xxhash.xxh3_128(), np.zeros(0, np.bool_), 0, accesses
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(_aligned(_ACCESSES), "w", force_zip64=True) as member:
            member.write(_array_header(accesses))
            for chunk in chunks:
                data = np.ascontiguousarray(chunk, "<u4")
                left -= len(data)
                hasher.update(data.data)
                pages = _with_pages(pages, data >> np.uint32(PAGE_SHIFT))
                writes += int(np.count_nonzero(data & np.uint32(1)))
                member.write(data.data.cast("B"))
        if left != 0 or not pages.all():
            raise ValueError(f"{accesses} accesses of {len(pages)} pages, {left} missing")
        meta = TraceMeta(
            accesses=accesses,
            reads=accesses - writes,
            writes=writes,
            pages=len(pages),
            instructions=instructions,
            source=source,
            digest=hasher.hexdigest(),
        )
        archive.writestr(zipfile.ZipInfo(_META), meta.model_dump_json(indent=1) + "\n")
    return meta


def _with_pages(seen: NDArray[np.bool_], pages: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Mark the pages that have occurred: bool[highest page + 1]."""
    if not len(pages):
        return seen
    grown = np.zeros(max(len(seen), int(pages.max()) + 1), np.bool_)
    grown[: len(seen)] = seen
    grown[pages] = True
    return grown


def _aligned(name: str) -> zipfile.ZipInfo:
    """Describe the archive's first member, padded so that its data begin at an aligned offset."""
    info = zipfile.ZipInfo(name)
    end = _LOCAL_HEADER.size + len(name) + 4 + _ZIP64_EXTRA
    padding = -end % _ALIGNMENT
    info.extra = struct.pack("<HH", _PADDING_ID, padding) + bytes(padding)
    return info


def _foreign(name: str) -> UsageError:
    """Make the error for a file that is no trace."""
    return UsageError(f"{name!r} is no trace: expected a file made by `pageferry trace import`")


def _damaged(name: str, what: str) -> UsageError:
    """Make the error for a trace that can't be used."""
    return UsageError(f"trace {name!r} is damaged: {what}; import it again")
