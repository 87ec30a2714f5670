"""From a memory trace's text to a trace's file: a stream, twice over the disk, never in memory.

The text becomes accesses with pages numbered as they occur, which wait in an unnamed file beside
the new one; once all pages are known, they are renumbered in order of addresses, as the format
wants them. Meanwhile each access takes 8 bytes of disk; 4 of them stay.
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
_NOTICE_S: Final = 0.25  # a signal is noticed within this
_SOURCE: Final = 255  # characters of a text's name that are kept

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

OnProgress = Callable[[int, int | None], None]  # accesses so far, and in all if that is known


@dataclass(frozen=True)
class Imported:
    """What has become of a text.

    Attributes:
        meta: The metadata of the trace that was made.
        lines: Lines of text that were read.
        fetches: Instruction fetches in it, whether kept or not.
        unknown: Lines that are neither accesses nor valgrind's own, which were passed over.
        trailing: Accesses with words behind them.
        processes: How many made these accesses, as far as valgrind says; 0 where it does not.
    """

    meta: TraceMeta
    lines: int
    fetches: int
    unknown: int
    trailing: int
    processes: int


class _Raw(io.FileIO):
    """A file whose reads end with a signal, also with one that came just before the read began.

    The kernel interrupts only what already waits.
    """

    def readinto(self, buffer: Buffer, /) -> int | None:
        self.check()
        while not select.select([self], [], [], _NOTICE_S)[0]:
            self.check()
        return super().readinto(buffer)

    def check(self) -> None:
        """Raise what ends the reading."""


class TraceText:
    """A text to read, plain or compressed, with a name for messages.

    Args:
        name: Of the file; `-` is standard input. It is opened at once.
        check: Called before each read and while one waits; what it raises ends the reading.

    Attributes:
        name: As messages have it.
        status: Of the open file.
        size: Bytes of the file, compressed as they are; None where that is unknown.

    Raises:
        UsageError: It can't be opened, or is a terminal.
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
        """Bytes that have been read, compressed as they are; 0 where the size is unknown."""
        return self._file.tell() if self.size is not None else 0

    def blocks(self) -> Iterator[bytes]:
        """Read all of it, unpacked, in UTF-8 and without a byte order mark.

        Yields:
            Blocks of any length, which may end within a line.

        Raises:
            UsageError: It can't be read, or is damaged.
        """
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
    """The trace's file while it is made: see `common.files.atomic_file`.

    Args:
        name: Of the file, which has no name before `commit`.
        force: Whether a file of that name is replaced.

    Attributes:
        file: Open for writing and reading.

    Raises:
        UsageError: There is such a file already, or it can't be made.
    """

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
        with contextlib.suppress(OSError):  # nobody wants what could not be written
            self.file.close()
        self._new.discard()

    @property
    def folder(self) -> Path:
        """Where the file will be."""
        return self._path.parent

    def replaces(self, text: TraceText) -> bool:
        """Tell whether the trace would take the place of the text that it is made of.

        Args:
            text: What it is made of.

        Returns:
            True if both are the same file.
        """
        return self._path.exists() and os.path.samestat(self._path.stat(), text.status)

    @contextlib.contextmanager
    def failures(self) -> Iterator[None]:
        """Turn an `OSError` of writing this file into a `UsageError`.

        Yields:
            Nothing; what is inside writes the file.

        Raises:
            UsageError: In the place of any `OSError` inside.
        """
        try:
            yield
        except FileExistsError:
            raise UsageError(f"{self.name} is there already: --force replaces it") from None
        except OSError as error:
            why = os.strerror(error.errno or errno.EIO)
            raise UsageError(f"can't write {self.name}: {why}") from None

    def commit(self) -> None:
        """Give the file its name.

        Raises:
            UsageError: There is a file of that name by now, or it can't be written.
        """
        with self.failures():
            self.file.close()
            self._new.commit()


def import_text(
    text: TraceText, new: TraceFile, parser: LackeyParser, keep: bool, show: OnProgress
) -> Imported:
    """Make a trace's file of a text.

    Args:
        text: What valgrind wrote.
        new: The file; the caller commits it, which must not be done where this raises.
        parser: A new one.
        keep: Whether instruction fetches are among its accesses.
        show: Called with the number of accesses so far, and with their total once it is known.

    Returns:
        What has become of the text.

    Raises:
        UsageError: The text is not a trace, has no accesses, or the file can't be written.
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


def _accesses(text: TraceText, parser: LackeyParser) -> Iterator[NDArray[np.uint32]]:
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


def _renumbered(
    spool: IO[bytes], parser: LackeyParser, show: OnProgress
) -> Iterator[NDArray[np.uint32]]:
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
    """Shorten a name to its last part, as text that any reader can show."""
    return os.path.basename(name).encode("utf-8", "replace").decode()[-_SOURCE:]
