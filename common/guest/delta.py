"""Deltas of pages against what the destination has, in QEMU's XBZRLE encoding.

An encoding of a page is a row of pairs: how many bytes are as they were, how many are not, each an
unsigned LEB128 of one or two bytes, and then those that are not, as they are now. What is left
unchanged at the page's end is not mentioned; only the first count may be zero. So an encoding is
legal for `xbzrle_decode_buffer` of QEMU (migration/xbzrle.c), and the other way round.

Where to cut is the encoder's choice. This one compares words of eight bytes, and trims each run of
changed words to the byte at both of its ends: as short as QEMU's where whole words change, at the
speed of words.

What the destination has is kept in a cache of pages, direct-mapped as QEMU's: a page has one slot.
Who sits in it stays as long as it was of use in one of the last `LIFETIME` rounds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.guest.jit import inlined, kernel
from common.guest.native import copy_line, signed
from common.guest.stale import popcount
from common.units import LINE_SIZE, PAGE_SIZE

LIFETIME: Final = 2  # rounds; QEMU's CACHED_PAGE_LIFETIME
EVERY_LINE: Final = np.uint64(2**64 - 1)

WHOLE: Final = 0  # what becomes of a page: it goes whole (or as its changed lines)
DELTA: Final = 1
ZERO: Final = 2

HITS: Final = 0
MISSES: Final = 1
OVERFLOWS: Final = 2
COUNTERS: Final = 3

_TABLE_BYTES: Final = 6  # what a delta costs beside its encoding
_LINES_BYTES: Final = 12  # and what lines cost beside themselves
_BYTE: Final = np.uint64(0xFF)
_TOP_BYTE: Final = np.uint64(0xFF << 56)
_EIGHT: Final = np.uint64(8)
_NOTHING: Final = np.uint64(0)
_ONE: Final = np.uint64(1)


class PageCache(NamedTuple):
    """Old pages. pages: int64[slots], whose page is there (-1: nobody's); ages: int64[slots], the

    round in which it was last of use; words: uint64[slots * 512].
    """

    pages: NDArray[np.int64]
    ages: NDArray[np.int64]
    words: NDArray[np.uint64]


def new_cache(size: int, n_pages: int) -> PageCache:
    """Of `size` bytes, at most as many as the guest has pages; in memory already."""
    slots = max(1, min(size // PAGE_SIZE, n_pages))
    words = np.empty(slots * PAGE_SIZE // 8, np.uint64)
    words.fill(0)  # its first touch is no part of a round
    return PageCache(np.full(slots, -1, np.int64), np.full(slots, 0, np.int64), words)


class Batch(NamedTuple):
    """Pages that are about to be sent, and what becomes of them.

    pages: int64[n]; masks: uint64[n], the lines that may have changed; words: uint64, those lines
    side by side, as they are to arrive; bytes: the same memory as uint8. Overwritten are fates:
    uint8[n]; lengths: int64[n], of encodings; out: uint8, the encodings side by side, with room for
    as many bytes as the lines have and a page more.
    """

    pages: NDArray[np.int64]
    masks: NDArray[np.uint64]
    words: NDArray[np.uint64]
    bytes: NDArray[np.uint8]
    fates: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    out: NDArray[np.uint8]


@inlined
def _lowest(mask: np.uint64) -> int:
    """The number of the lowest bit that is set; the mask is not zero."""
    return popcount((mask & (~mask + _ONE)) - _ONE)


@inlined
def _same_bytes_below(x: np.uint64) -> int:
    """How many of the lowest bytes are zero; not all are."""
    n = 0
    while x & _BYTE == _NOTHING:
        x >>= _EIGHT
        n += 1
    return n


@inlined
def _same_bytes_above(x: np.uint64) -> int:
    n = 0
    while x & _TOP_BYTE == _NOTHING:
        x <<= _EIGHT
        n += 1
    return n


@inlined
def _put_count(out: NDArray[np.uint8], to: int, n: int) -> int:
    """An unsigned LEB128 of one or two bytes; where the next byte goes."""
    if n < 0x80:
        out[to] = n
        return to + 1
    out[to] = (n & 0x7F) | 0x80
    out[to + 1] = n >> 7
    return to + 2


@kernel
def _put_run(
    out: NDArray[np.uint8],
    to: int,
    limit: int,
    same: int,
    data: NDArray[np.uint8],
    start: int,
    n: int,
) -> int:
    """`same` unchanged bytes, then these `n` of `data`; -1: it would go beyond `limit`."""
    if to + 4 + n > limit:
        return -1
    to = _put_count(out, to, same)
    to = _put_count(out, to, n)
    for i in range(n):
        out[to + i] = data[start + i]
    return to + n


@kernel
def _encode(
    old: NDArray[np.uint64], base: int, batch: Batch, i: int, word: int, to: int, limit: int
) -> int:
    """Page `i`, whose lines begin at `word`, against the page at `old[base]`: where it ends.

    -1: it would not end before `limit`.
    """
    described = 0  # bytes of the page
    begin = start = end = -1  # of the run that is open: in the page, in `bytes`, its end
    mask = batch.masks[i]
    while mask != _NOTHING:
        line = _lowest(mask)
        mask &= mask - _ONE
        was = base + (line << 3)
        differ = _NOTHING
        for k in range(8):
            differ |= old[was + k] ^ batch.words[word + k]
        if differ != _NOTHING:
            for k in range(8):
                x = old[was + k] ^ batch.words[word + k]
                if x != _NOTHING:
                    at = (line << 6) + (k << 3)
                    first = at + _same_bytes_below(x)
                    if begin >= 0 and first - end > 2:  # a closer one costs less than two counts
                        to = _put_run(
                            batch.out, to, limit, begin - described, batch.bytes, start, end - begin
                        )
                        if to < 0:
                            return -1
                        described = end
                        begin = -1
                    if begin < 0:
                        begin = first
                        start = (word << 3) + first - (line << 6)
                    end = at + 8 - _same_bytes_above(x)
        word += 8
    if begin >= 0:
        to = _put_run(batch.out, to, limit, begin - described, batch.bytes, start, end - begin)
    return to


@kernel
def _is_zero(words: NDArray[np.uint64], first: int) -> bool:
    for start in range(first, first + 512, 16):
        seen = _NOTHING
        for word in range(start, start + 16):
            seen |= words[word]
        if seen != _NOTHING:
            return False
    return True


@kernel
def _store(cache: PageCache, slot: int, batch: Batch, i: int, word: int) -> None:
    """The destination will have these lines."""
    mask = batch.masks[i]
    while mask != _NOTHING:
        copy_line(cache.words, (slot << 9) + (_lowest(mask) << 3), batch.words, word)
        mask &= mask - _ONE
        word += 8


@kernel
def _admit(
    cache: PageCache,
    page: int,
    now: int,
    likely: NDArray[np.bool_],
    batch: Batch,
    i: int,
    word: int,
) -> None:
    """A page that was not there, and goes whole, if its slot is to be had.

    What is not `likely` to be sent again takes only a slot that is nobody's, and keeps it until
    somebody comes who is.
    """
    slot = page % len(cache.pages)
    free = cache.pages[slot] < 0
    if free or (likely[page] and cache.ages[slot] + LIFETIME <= now):
        cache.pages[slot] = page
        cache.ages[slot] = now if likely[page] else now - LIFETIME
        _store(cache, slot, batch, i, word)


@kernel
def encode_pages(
    cache: PageCache,
    batch: Batch,
    now: int,
    likely: NDArray[np.bool_],
    keep: bool,
    counters: NDArray[np.int64],
) -> int:
    """Sort a batch of whole pages (all masks are full) into deltas, zero pages, and the others.

    now: the round's number; likely: bool[n_pages], see `_admit`; keep: whether deltas will follow
    later. counters: int64[COUNTERS], added to. Those that go whole are moved to the front of the
    words. Returns the bytes of encodings.
    """
    to = moved = 0
    for i in range(len(batch.pages)):
        page = batch.pages[i]
        slot = page % len(cache.pages)
        hit = cache.pages[slot] == page
        word = i << 9
        end = -1
        batch.lengths[i] = 0
        if _is_zero(batch.words, word):
            batch.fates[i] = ZERO
        elif hit:
            counters[HITS] += 1
            end = _encode(cache.words, slot << 9, batch, i, word, to, to + PAGE_SIZE)
            if end < 0:
                counters[OVERFLOWS] += 1
                batch.fates[i] = WHOLE
            else:
                batch.fates[i] = DELTA
                batch.lengths[i] = end - to
                to = end
        else:
            counters[MISSES] += 1
            batch.fates[i] = WHOLE
        if hit and keep:
            cache.ages[slot] = now
            _store(cache, slot, batch, i, word)
        elif keep and batch.fates[i] != ZERO:
            _admit(cache, page, now, likely, batch, i, word)
        if batch.fates[i] == WHOLE:
            if moved != word:
                for k in range(512):
                    batch.words[moved + k] = batch.words[word + k]
            moved += 512
    return to


@kernel
def encode_lines(
    cache: PageCache, batch: Batch, now: int, keep: bool, counters: NDArray[np.int64]
) -> int:
    """The same for pages of which only the lines in their masks have changed.

    A page goes as a delta where that is shorter than its lines; the lines of the others are moved
    to the front of the words. A page that is not in the cache cannot be taken into it: of the rest
    of it, it is not known what the destination has.
    """
    to = moved = word = 0
    for i in range(len(batch.pages)):
        page = batch.pages[i]
        slot = page % len(cache.pages)
        lines = popcount(batch.masks[i])
        batch.lengths[i] = 0
        batch.fates[i] = WHOLE
        if cache.pages[slot] == page:
            counters[HITS] += 1
            most = min(lines * LINE_SIZE + _LINES_BYTES - _TABLE_BYTES, lines * LINE_SIZE)
            end = _encode(cache.words, slot << 9, batch, i, word, to, to + most)
            if end < 0:
                counters[OVERFLOWS] += 1
            else:
                batch.fates[i] = DELTA
                batch.lengths[i] = end - to
                to = end
            if keep:
                cache.ages[slot] = now
                _store(cache, slot, batch, i, word)
        else:
            counters[MISSES] += 1
        if batch.fates[i] == WHOLE:
            if moved != word:
                for k in range(8 * lines):
                    batch.words[moved + k] = batch.words[word + k]
            moved += 8 * lines
        word += 8 * lines
    return to


@inlined
def _count_at(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """An unsigned LEB128 of one or two bytes, and where it ends; (-1, at) for anything else."""
    if at >= end:
        return -1, at
    low = signed(data[at])
    if low < 0x80:
        return low, at + 1
    if at + 1 >= end or data[at + 1] >= 0x80:
        return -1, at
    return (low & 0x7F) | signed(data[at + 1]) << 7, at + 2


@kernel
def _is_legal(data: NDArray[np.uint8], at: int, end: int) -> bool:
    """Whether these bytes are an encoding of changes within one page."""
    position, first = 0, at
    while at < end:
        same, after = _count_at(data, at, end)
        if same < 0 or (same == 0 and at != first):
            return False
        changed, after = _count_at(data, after, end)
        if changed <= 0 or after + changed > end:
            return False
        position += same + changed
        if position > PAGE_SIZE:
            return False
        at = after + changed
    return True


@kernel
def apply_deltas(
    memory: NDArray[np.uint8],
    pages: NDArray[np.int64],
    lengths: NDArray[np.int64],
    data: NDArray[np.uint8],
) -> int:
    """Change these pages of memory (uint8[4096 * n_pages]) as their encodings say.

    pages must be the guest's, and `lengths` sum up to `data`. Returns -1, or which of them is not
    legal: nothing has been written then.
    """
    at = 0
    for i in range(len(pages)):
        if not _is_legal(data, at, at + lengths[i]):
            return i
        at += lengths[i]
    at = 0
    for i in range(len(pages)):
        end = at + lengths[i]
        position = pages[i] * PAGE_SIZE
        while at < end:
            same, at = _count_at(data, at, end)
            changed, at = _count_at(data, at, end)
            position += same
            for k in range(changed):
                memory[position + k] = data[at + k]
            position += changed
            at += changed
    return -1
