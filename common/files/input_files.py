"""Files that a person hands us: read whole, and never waited for, whatever they are.

They may be damaged, or made to do harm. So what is read is bounded before it is looked at: first
the bytes, then how deep and how many its parts are, and only then its content. Whatever is wrong
becomes one line that names the file, the place in it, and what was expected (`UsageError`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from pageferry.common.capacity.memory import check_memory
from pageferry.common.errors import UsageError
from pageferry.common.files.text import decode_text

STDIN: Final = "-"
_MOST_DEPTH: Final = 32  # lists and objects within one another; ours have ten
_MOST_PARTS: Final = 1 << 24  # of one JSON text
# Memory that a part and a byte take once they are read and checked against a model (measured: 225
# to 255 bytes a part). It is asked for before: where an allocation of its own fails, pydantic-core
# ends the process or hangs for ever.
_PART_BYTES: Final = 300
_TEXT_BYTES: Final = 4
_BLOCK: Final = 1 << 25  # asked for at once, where there is so much
_MOST_NUMBER: Final = 1 << 64  # bytes, milliseconds, whatever is counted
_LONG_KEY: Final = re.compile(
    rf"""(?:\.[ \t]*+(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+){{{_MOST_DEPTH}}}"""
)
_LONGEST: Final = 200  # characters of what is quoted
_KINDS: Final = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class _Memory:
    """Memory that is asked for before it is taken.

    It is asked for in blocks, as asking takes longer than reading a small text: a sweep's folder
    has 100,000 of them.
    """

    def __init__(self) -> None:
        self._left = 0  # has been asked for, and not been taken

    def ask(self, what: str, size: int) -> None:
        """Raise `UsageError` where so many bytes can't be had."""
        if size > self._left:
            self._left = 0
            check_memory(what, size)
            with contextlib.suppress(UsageError):
                check_memory(what, size + _BLOCK)
                self._left = size + _BLOCK
        self._left = max(self._left - size, 0)


_MEMORY: Final = _Memory()


def shorten_text(text: str) -> str:
    """Shorten a text for a complaint.

    Args:
        text: Any text.

    Returns:
        One line of at most 200 characters, then an ellipsis.
    """
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def open_file(file: str | Path) -> int:
    """Open a regular file for reading, without waiting: a pipe without a writer would never open.

    Args:
        file: Its path.

    Returns:
        A descriptor, non-blocking, for the caller to close.

    Raises:
        OSError: It can't be opened, or is no regular file; its `strerror` says what it is instead.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError:  # a NUL in the name
        raise OSError(errno.EINVAL, "no name of a file") from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # only sockets and devices without a driver say so
            raise OSError(errno.EINVAL, "a socket or a device: expected a file") from None
        raise
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    what = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
    raise OSError(errno.EINVAL, f"{what}: expected a file")


def read_file(file: str | Path, most: int, *, option: str = "", stdin: bool = False) -> bytes:
    """Read a regular file of bounded size.

    Args:
        file: Its path.
        most: Bytes that it may have.
        option: The option that names it, for complaints; empty: none does.
        stdin: Whether `-` is standard input, which is waited for.

    Returns:
        All of its bytes.

    Raises:
        UsageError: It can't be read, is no file, or is larger.
    """
    before = f"{option}: " if option else ""
    try:
        if stdin and str(file) == STDIN:
            return _read_stdin(most)
        data = read_whole(open_file(file), most)
    except OSError as error:
        why = error.strerror or os.strerror(error.errno or errno.EIO)
        raise UsageError(f"{before}{shorten_text(str(file))} can't be read: {why}") from None
    if len(data) > most:
        raise UsageError(f"{before}{file} is too large: expected at most {most >> 20} MiB")
    return data


def read_whole(fd: int, most: int) -> bytes:
    """Read what a descriptor of `open_file` has, up to one byte more than allowed, and close it.

    Args:
        fd: Closed in any case.
        most: Bytes that it may have.

    Returns:
        More than `most` bytes (one more) where the file is too large.

    Raises:
        OSError: It can't be read without waiting, as some files of /proc, or at all.
    """
    with open(fd, "rb") as opened:
        data = opened.read(most + 1)
    if data is None:  # it is non-blocking
        raise OSError(errno.EINVAL, "it would have to be waited for: expected a file")
    return data


def _read_stdin(most: int) -> bytes:
    """Read standard input, which is not a terminal, to its end."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("standard input is a terminal, or closed: expected a file, or a pipe")
    data = sys.stdin.buffer.read(most + 1)
    if len(data) > most:
        raise UsageError(f"standard input is too large: expected at most {most >> 20} MiB")
    return data


def parse_json(data: bytes, name: str) -> Any:
    """Parse a JSON text of bounded depth, parts and numbers, and without what UTF-8 can't encode.

    Args:
        data: The file's bytes.
        name: Of the file, for complaints.

    Returns:
        What the text stands for.

    Raises:
        UsageError: It is no JSON, beyond a bound, or there is not enough memory for it.
    """
    text = parse_text(data, name)
    parts = sum(text.count(each) for each in ",[{")
    if parts > _MOST_PARTS:
        raise UsageError(f"{name} has too many parts: expected at most {_MOST_PARTS:,}")
    _MEMORY.ask(f"{name}, once it is read,", _PART_BYTES * parts + _TEXT_BYTES * len(data))
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise UsageError(f"{name} is not JSON: nested too deep") from None
    except ValueError as error:
        raise UsageError(f"{name} is not JSON: {shorten_text(str(error))}") from None
    _check_parts(document, name, _MOST_NUMBER)
    return document


def parse_toml(data: bytes, name: str) -> dict[str, Any]:
    """Parse a TOML text of bounded depth, and without what UTF-8 can't encode.

    Args:
        data: The file's bytes.
        name: Of the file, for complaints.

    Returns:
        The top-level table.

    Raises:
        UsageError: It is no TOML, or beyond a bound.
    """
    text = parse_text(data, name)
    if _LONG_KEY.search(text):  # tomllib's time grows with the square of a key's parts
        raise UsageError(f"{name} is not TOML of ours: a key has more than {_MOST_DEPTH} parts")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{name} is not TOML: nested too deep") from None
    except ValueError as error:
        raise UsageError(f"{name} is not TOML: {shorten_text(str(error))}") from None
    _check_parts(document, name, None)  # TOML has `inf`, and each option its bounds
    return document


def parse_text(data: bytes, name: str) -> str:
    """Decode what an editor has written.

    Args:
        data: The file's bytes, in UTF-8, or with a byte order mark.
        name: Of the file, for complaints.

    Returns:
        The text, without the mark.

    Raises:
        UsageError: It is not in the encoding that its mark says, or UTF-8.
    """
    try:
        return decode_text(data)
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not {error.encoding.upper()}: byte {error.start}") from None


def _refuse_constant(word: str) -> Any:
    """Refuse NaN and infinities, which Python reads and JSON does not have."""
    raise ValueError(f"{word} is no number of JSON")


def _check_parts(document: Any, name: str, most: int | None) -> None:
    """Raise `UsageError` for a part that no file of ours has. most: what no number reaches."""
    try:
        _check(document, _MOST_DEPTH, most)
    except _Odd as odd:
        where = ".".join(reversed(odd.place))
        place = f"{shorten_text(where)}: " if where else ""
        raise UsageError(f"{name}: {place}{odd}") from None


class _Odd(Exception):
    """A part that no file of ours has. place: where it is, from the inside out."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.place: list[str] = []


def _check(value: Any, depth: int, most: int | None) -> None:
    """Raise `_Odd` for the first part that is too deep, too large or no text."""
    if isinstance(value, str):
        _check_words(value)
    elif isinstance(value, (dict, list)):
        if depth == 0:
            raise _Odd(f"nested too deep: expected at most {_MOST_DEPTH} levels")
        for place, each in value.items() if isinstance(value, dict) else enumerate(value):
            _check(place, 0, None)
            try:
                _check(each, depth - 1, most)
            except _Odd as odd:
                odd.place.append(str(place))
                raise
    elif isinstance(value, (int, float)) and most is not None and not -most < value < most:
        raise _Odd("a number is too large: expected less than 2**64")


def _check_words(text: str) -> None:
    """Raise `_Odd` for text that UTF-8 can't encode."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Odd(
                f"{shorten_text(ascii(text))} is no text: half of a surrogate pair"
            ) from None
