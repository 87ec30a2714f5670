"""The header that every frame begins with: 16 bytes, little-endian.

    type:u8  flags:u8  entries:u16  value:u32  length:u64   then `length` bytes of body

It stands here twice and nowhere else: as a `struct`, and as the two words of 64 bits that compiled
code reads and writes. The functions of the words are plain, since `common.wire` knows nothing of
compilers; whoever needs them compiled wraps them (`common.urgent.header`).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

HEADER: Final = struct.Struct("<BBHIQ")
TRAILER: Final = struct.Struct("<Q")
CHECKED: Final = 1  # flag: a trailer follows, XXH3-64 of header and body


class Header(NamedTuple):
    """A header as it came, not checked yet.

    Attributes:
        kind: the type, which may be none of ours.
        flags: `CHECKED` or 0.
        entries: records of the table, or a number.
        value: what the type says.
        length: bytes of the body.
    """

    kind: int
    flags: int
    entries: int
    value: int
    length: int


def unpack(data: bytes | bytearray) -> Header:
    """Return what these 16 bytes say."""
    return Header._make(HEADER.unpack(data))


# -- as two words; the second one is the length ----------------------------------------------------


def first_word(kind: int, flags: int, entries: int, value: int) -> int:
    """Return a header's first word."""
    return kind | (flags << 8) | (entries << 16) | (value << 32)


def kind_of(word: int) -> int:
    """Return the type that a first word names, without its flags."""
    return word & 0xFF


def flags_of(word: int) -> int:
    """Return the flags of a first word."""
    return (word >> 8) & 0xFF


def entries_of(word: int) -> int:
    """Return the entries of a first word."""
    return (word >> 16) & 0xFFFF


def value_of(word: int) -> int:
    """Return the value of a first word."""
    return (word >> 32) & 0xFFFFFFFF


# -- an extent of a table, as one word -------------------------------------------------------------


def extent_word(first: int, count: int) -> int:
    """Return `count` pages from page `first` on, as they stand in a table."""
    return first | (count << 32)


def first_of(extent: int) -> int:
    """Return an extent's first page."""
    return extent & 0xFFFFFFFF


def count_of(extent: int) -> int:
    """Return an extent's number of pages."""
    return (extent >> 32) & 0xFFFFFFFF
