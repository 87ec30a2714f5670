"""From a memory trace's text to a trace's file: a stream, twice over the disk and never in memory.

The text becomes accesses with pages numbered as they occur, which wait in an unnamed file beside
the one that is made; when all pages are known they are renumbered in order of addresses, as the
format wants them. While that lasts, 8 bytes of disk are taken for each access; 4 of them stay.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Final, Self

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import UsageError
from pageferry.common.files.atomic_file import NewFile
from pageferry.common.files.memory_trace import PAGE_SHIFT, TraceMeta, write_trace
from pageferry.common.files.text import as_utf8
from pageferry.trace.decompression import BLOCK, PackedError, unpacked
from pageferry.trace.lackey import LackeyError, LackeyParser

STDIN: Final = "-"

_CHUNK: Final = 1 << 18  # accesses that are renumbered in one go
_IN_PAGE: Final = np.uint32((1 << PAGE_SHIFT) - 1)
_NOTICE_S: Final = 0.25  # until a signal is noticed at the latest
_SOURCE: Final = 255  # characters of a text's name that are kept

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

Show = Callable[[int, int | None], None]  # accesses so far, of how many if that is known


@dataclass(frozen=True)
class Imported:
    """What has become of a text. fetches: instruction fetches in it, whether kept or not;

    trailing: accesses with words behind them; processes: whose they are, as far as valgrind says.
    """

    meta: TraceMeta
    lines: int
    fetches: int
    unknown: int
    trailing: int
    processes: int


class _Raw(io.FileIO):
    """A file whose reads end with a signal, also with one that came just before the read began:
    the kernel interrupts only what already waits.
    """

    def readinto(self, buffer: Buffer, /) -> int | None:
        self.check()
        while not select.select([self], [], [], _NOTICE_S)[0]:
            self.check()
        return super().readinto(buffer)

    def check(self) -> None:
        """Raises what ends the reading."""


class Text:
    """A text to read, plain or compressed, with a name for messages. `-` is standard input.

    size: bytes of the file, None where that is unknown; taken: how many of them have been read.
    check: called before each read and while one waits; may raise. Raises `UsageError`.
    """

    def __init__(self, name: str, check: Callable[[], None] = lambda: None) -> None:
        self.name = "standard input" if name == STDIN else name
        try:
            raw = _Raw(0, closefd=False) if name == STDIN else _Raw(name)
            raw.check = check  # type: ignore[method-assign]
            self._file = io.BufferedReader(raw, BLOCK)
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from None
        if self._file.isatty():
            self._file.close()
            raise UsageError(f"{self.name} is a terminal: expected a file, or valgrind's output")
        self.status = os.fstat(self._file.fileno())
        self.size = self.status.st_size if stat.S_ISREG(self.status.st_mode) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def taken(self) -> int:
        """Bytes so far, compressed as they are."""
        return self._file.tell() if self.size is not None else 0

    def blocks(self) -> Iterator[bytes]:
        """All of it, unpacked, in UTF-8 and without a mark. Raises `UsageError`."""
        try:
            yield from as_utf8(unpacked(self._file))
        except PackedError as error:
            raise UsageError(f"{self.name}: {error}") from None
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError | ValueError) -> UsageError:
        why = os.strerror(error.errno or errno.EIO) if isinstance(error, OSError) else str(error)
        return UsageError(f"can't read {self.name}: {why}")


class TraceFile:
    """The trace, while it is made: see `common.files.atomic_file`. Raises `UsageError`."""

    def __init__(self, name: str, *, force: bool) -> None:
        self.name = name
        self._path = Path(os.path.realpath(name))
        with self.failures():
            if self._path.exists() and not self._path.is_file():
                raise UsageError(f"can't write {name}: it exists and is not a regular file")
            self._new = NewFile(name, force=force)
        self.file: BinaryIO = os.fdopen(self._new.fd, "w+b", closefd=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what could not be written is not wanted
            self.file.close()
        self._new.discard()

    @property
    def folder(self) -> Path:
        """Where it will be."""
        return self._path.parent

    def replaces(self, text: Text) -> bool:
        """Whether it would take the place of what it is made of."""
        return self._path.exists() and os.path.samestat(self._path.stat(), text.status)

    @contextlib.contextmanager
    def failures(self) -> Iterator[None]:
        """Inside, an `OSError` is one of writing this file: becomes a `UsageError`."""
        try:
            yield
        except FileExistsError:
            raise UsageError(f"{self.name} is there already: --force replaces it") from None
        except OSError as error:
            why = os.strerror(error.errno or errno.EIO)
            raise UsageError(f"can't write {self.name}: {why}") from None

    def commit(self) -> None:
        """Give it its name."""
        with self.failures():
            self.file.close()
            self._new.commit()


def import_text(
    text: Text, new: TraceFile, parser: LackeyParser, keep: bool, show: Show
) -> Imported:
    """Make a trace's file of a text. keep: whether instruction fetches are among its accesses.

    Raises `UsageError`, then `new` must not be committed.
    """
    with new.failures(), tempfile.TemporaryFile(dir=new.folder) as spool:
        for part in _accesses(text, parser):
            spool.write(part.data)
            show(parser.accesses, None)
        if not parser.accesses:
            raise UsageError(f"{text.name}: {_nothing(parser)}")
        meta = write_trace(
            new.file,
            _renumbered(spool, parser, show),
            accesses=parser.accesses,
            instructions=keep,
            source=_said(text.name),
        )
    return Imported(
        meta, parser.lines, parser.fetches, parser.unknown, parser.trailing, parser.processes
    )


def _accesses(text: Text, parser: LackeyParser) -> Iterator[NDArray[np.uint32]]:
    try:
        for block in text.blocks():
            yield from parser.feed(block)
            if parser.full:
                return
        yield from parser.finish()
    except LackeyError as error:
        hint = "; --skip-unknown passes over such lines" if error.unknown else ""
        hint = ", or --mixed takes all for one memory" if error.mixed else hint
        raise UsageError(f"{text.name}, {error}{hint}") from None


def _renumbered(spool: IO[bytes], parser: LackeyParser, show: Show) -> Iterator[NDArray[np.uint32]]:
    numbering, total, done = parser.numbering(), parser.accesses, 0
    spool.seek(0)
    while raw := spool.read(4 * _CHUNK):
        part = np.frombuffer(raw, np.uint32)
        yield numbering[part >> np.uint32(PAGE_SHIFT)] << np.uint32(PAGE_SHIFT) | part & _IN_PAGE
        done += len(part)
        show(done, total)


def _nothing(parser: LackeyParser) -> str:
    if not parser.lines:
        return "it is empty"
    if parser.fetches:
        return f"no data accesses, {parser.fetches:,} instruction fetches (--instructions)"
    return (
        f"no accesses in {parser.lines:,} lines:"
        " expected the output of valgrind --tool=lackey --trace-mem=yes"
    )


def _said(name: str) -> str:
    """The last part of a name, as text that any reader can show."""
    return os.path.basename(name).encode("utf-8", "replace").decode()[-_SOURCE:]
