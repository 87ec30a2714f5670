"""Text files as people's editors write them: with a byte order mark, or in UTF-16."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Final

# UTF-32's marks come first: the little-endian one begins like UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MARK_BYTES: Final = 4


def encoding_of(start: bytes) -> tuple[str, int]:
    """Find a file's encoding by its byte order mark.

    Args:
        start: Its first `MARK_BYTES` bytes, fewer where the file is shorter.

    Returns:
        The name of the codec, and the length of the mark; `utf-8` and 0 where there is none.
    """
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name, len(mark)
    return "utf-8", 0


def as_utf8(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Convert a file to UTF-8, without a byte order mark.

    Args:
        blocks: The file's bytes, in blocks of any length.

    Yields:
        The same text, in blocks. A file that is UTF-8 is not checked.

    Raises:
        UnicodeDecodeError: It is not in the encoding that its mark says.
    """
    parts = iter(blocks)
    start = b""
    for block in parts:
        start += block
        if len(start) >= MARK_BYTES:
            break
    name, skip = encoding_of(start)
    start = start[skip:]
    if name == "utf-8":
        yield start
        yield from parts
        return
    decoder = codecs.getincrementaldecoder(name)()
    yield decoder.decode(start).encode()
    for block in parts:
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", final=True).encode()


def decode_text(data: bytes) -> str:
    """Decode a whole file.

    Args:
        data: Its bytes.

    Returns:
        The text, without a byte order mark.

    Raises:
        UnicodeDecodeError: Its `encoding` is what the file should be.
    """
    name, skip = encoding_of(data[:MARK_BYTES])
    return data[skip:].decode(name)
