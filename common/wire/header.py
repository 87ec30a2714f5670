"""The header that every frame begins with: 16 bytes, little-endian.

    type:u8  flags:u8  entries:u16  value:u32  length:u64   then `length` bytes of body

It is defined here twice and nowhere else: as a `struct`, and as the two words of 64 bits that
compiled code reads and writes. The functions of the words are plain, since `common.wire` knows
nothing of compilers; whoever needs them compiled wraps them (`common.urgent.kernels`).
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
        kind: The type, which may be none of ours.
        flags: `CHECKED` or 0.
        entries: Records of the table, or a number.
        value: Depends on the type.
        length: Bytes of the body.
    """

    kind: int
    flags: int
    entries: int
    value: int
    length: int


def unpack_header(data: bytes | bytearray) -> Header:
    """Take a header apart.

    Args:
        data: Its 16 bytes.

    Returns:
        What they say.
    """
    return Header._make(HEADER.unpack(data))


# -- as two words; the second one is the length ----------------------------------------------------


def first_word(kind: int, flags: int, entries: int, value: int) -> int:
    """Return a header's first word.

    Args:
        kind: The type, 8 bits.
        flags: 8 bits.
        entries: 16 bits.
        value: 32 bits.

    Returns:
        64 bits, of which `value` takes the upper half.
    """
    return kind | (flags << 8) | (entries << 16) | (value << 32)


def kind_of(word: int) -> int:
    """Return the type that a header names.

    Args:
        word: The header's first one.

    Returns:
        0 to 255, without the flags.
    """
    return word & 0xFF


def flags_of(word: int) -> int:
    """Return the flags of a header.

    Args:
        word: The header's first one.

    Returns:
        0 to 255.
    """
    return (word >> 8) & 0xFF


def entries_of(word: int) -> int:
    """Return the entries of a header.

    Args:
        word: The header's first one.

    Returns:
        0 to 2**16 - 1.
    """
    return (word >> 16) & 0xFFFF


def value_of(word: int) -> int:
    """Return the value of a header.

    Args:
        word: The header's first one.

    Returns:
        0 to 2**32 - 1, also where the word is a negative int64.
    """
    return (word >> 32) & 0xFFFFFFFF


# -- an extent of a table, as one word -------------------------------------------------------------


def extent_word(first: int, count: int) -> int:
    """Return an extent as it is in a table.

    Args:
        first: Its first page, 32 bits.
        count: Its number of pages, 32 bits.

    Returns:
        64 bits, of which `count` takes the upper half.
    """
    return first | (count << 32)


def first_of(extent: int) -> int:
    """Return an extent's first page.

    Args:
        extent: As a word.

    Returns:
        0 to 2**32 - 1.
    """
    return extent & 0xFFFFFFFF


def count_of(extent: int) -> int:
    """Return an extent's number of pages.

    Args:
        extent: As a word.

    Returns:
        0 to 2**32 - 1.
    """
    return (extent >> 32) & 0xFFFFFFFF
