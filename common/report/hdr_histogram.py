"""A reader for fault latencies in reports of earlier versions: the text of an HDR histogram.

Format: V2 of https://github.com/HdrHistogram/HdrHistogram (its `encodeIntoCompressedByteBuffer` and
`ZigZagLEB128Codec`): base64 of a cookie, a length and a zlib stream; in it a header, then the
counts of the cells as zigzag LEB128, where a negative number -n stands for n empty cells.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterator
from typing import Final

_COMPRESSED: Final = 0x1C849304
_PLAIN: Final = 0x1C849303
_LAYOUT: Final = 0xF0  # the cookies' bits that say how counts are laid out
_OUTER: Final = struct.Struct(">II")  # cookie, length
_INNER: Final = struct.Struct(">IIIIQQd")  # cookie, length, offset, digits, least, greatest, ratio
_MOST_TEXT: Final = 2**20  # characters; those of our reports have a few thousand
_MOST_BYTES: Final = 2**20  # unpacked: nine bytes a cell would be 116,000 cells
_MOST_CELLS: Final = 2**20  # empty ones take nothing
_MOST_COUNT: Final = 2**53
_LONGEST: Final = 9  # bytes of a number
_VALUE_BITS: Final = 63  # of a value, which has a sign in HDR


class HistogramError(ValueError):
    """A text that is no histogram, or one beyond the bounds."""


def read_histogram(text: str) -> list[tuple[int, int]]:
    """Read the cells of a histogram that have counts.

    What it takes is bounded: a MiB of text, a MiB unpacked; cells without a count take nothing.

    Args:
        text: As a report has it, however it was damaged or made.

    Returns:
        (Value, count) of each cell, in order; the value is the greatest that the cell stands for.

    Raises:
        HistogramError: It is no histogram, or beyond a bound.
    """
    body = _unpacked(text)
    if len(body) < _INNER.size:
        raise HistogramError("too short for a histogram")
    cookie, length, offset, digits, least, _, _ = _INNER.unpack_from(body)
    if cookie & ~_LAYOUT != _PLAIN:
        raise HistogramError("no histogram of version 2")
    if length > len(body) - _INNER.size:
        raise HistogramError("counts are missing at its end")
    if offset or not 1 <= digits <= 5 or not 1 <= least < 2**62:
        raise HistogramError("a header that none of our reports has")
    counts = body[_INNER.size : _INNER.size + length]
    cells = _Cells(digits, least)
    return [(cells.greatest(cell), count) for cell, count in _counted(counts)]


def _unpacked(text: str) -> bytes:
    """Return the histogram's bytes."""
    if len(text) > _MOST_TEXT:
        raise HistogramError(f"longer than {_MOST_TEXT} characters")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise HistogramError("not base64") from None
    if len(data) < _OUTER.size:
        raise HistogramError("too short for a histogram")
    cookie, length = _OUTER.unpack_from(data)
    if cookie & ~_LAYOUT != _COMPRESSED or length != len(data) - _OUTER.size:
        raise HistogramError("no compressed histogram of version 2")
    unpacker = zlib.decompressobj()
    try:
        body = unpacker.decompress(data[_OUTER.size :], _MOST_BYTES)
    except zlib.error:
        raise HistogramError("damaged: it can't be unpacked") from None
    if not unpacker.eof:
        raise HistogramError(f"damaged, or longer than {_MOST_BYTES} bytes when it is unpacked")
    return body


class _Cells:
    """The values that cells stand for: `digits` significant digits, in units of `least`."""

    def __init__(self, digits: int, least: int) -> None:
        self._unit: int = least.bit_length() - 1
        cells: int = 2 * 10**digits  # of one unit, at the least
        self._half_magnitude: int = (cells - 1).bit_length() - 1
        self._half: int = 1 << self._half_magnitude

    def greatest(self, cell: int) -> int:
        """Return a cell's greatest value.

        Cells of the first bucket are a unit wide; from there on the width doubles by halves.
        """
        bucket: int = (cell >> self._half_magnitude) - 1
        within = (cell & (self._half - 1)) + self._half
        if bucket < 0:
            within, bucket = within - self._half, 0
        shift = bucket + self._unit
        if shift + within.bit_length() > _VALUE_BITS:
            raise HistogramError("a value that no clock can show")
        return ((within + 1) << shift) - 1


def _counted(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the cells that have counts, with their counts."""
    cell = total = 0
    for number in _numbers(data):
        if number < 0:
            cell -= number
        elif number:
            total += number
            if total > _MOST_COUNT:
                raise HistogramError("more counts than there can be")
            yield cell, number
            cell += 1
        else:
            cell += 1
        if cell > _MOST_CELLS:
            raise HistogramError(f"more than {_MOST_CELLS} cells")


def _numbers(data: bytes) -> Iterator[int]:
    """Yield the numbers of HDR's ZigZag LEB128: seven bits a byte, the ninth byte has eight."""
    value = shift = length = 0
    for byte in data:
        length += 1
        if length == _LONGEST:
            value |= byte << shift
        else:
            value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or length == _LONGEST:
            yield (value >> 1) ^ -(value & 1)
            value = shift = length = 0
    if length:
        raise HistogramError("it ends within a number")
