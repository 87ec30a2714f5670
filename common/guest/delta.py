"""Deltas of pages against what the destination has, in QEMU's XBZRLE encoding.

An encoding of a page is a row of pairs: how many bytes are as they were, how many are not, each an
unsigned LEB128 of one or two bytes, and then those that are not, as they are now. What is left
unchanged at the page's end is not mentioned; only the first count may be zero. So an encoding is
legal for `xbzrle_decode_buffer` of QEMU (migration/xbzrle.c), and the other way round.

Where to cut is the encoder's choice. This one compares words of eight bytes, and trims each run of
changed words to the byte at both of its ends: as short as QEMU's where whole words change, at the
speed of words.

What the destination has is kept in a cache of pages, direct-mapped as QEMU's: a page has one slot.
Who sits in it stays as long as it was of use in one of the last `LIFETIME` rounds (QEMU counts
syncs of its bitmap).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.jit import inlined, kernel
from pageferry.common.guest.native import copy_line, signed
from pageferry.common.guest.stale import popcount
from pageferry.common.units import LINE_SIZE, PAGE_SIZE

LIFETIME: Final = 2  # rounds; in QEMU CACHED_PAGE_LIFETIME, of syncs
EVERY_LINE: Final = np.uint64(2**64 - 1)

WHOLE: Final = 0  # what becomes of a page: it goes whole (or as its changed lines)
DELTA: Final = 1
ZERO: Final = 2

HITS: Final = 0
MISSES: Final = 1
OVERFLOWS: Final = 2
COUNTERS: Final = 3

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

    pages: int64[n]; masks: uint64[n], the lines of each that may have changed. Overwritten are
    words: uint64, those lines as they are to arrive, of pages that do not go as a delta, side by
    side, with room for all (bytes: the same memory as uint8); fates: uint8[n]; lengths: int64[n],
    of encodings; out: uint8, the encodings side by side, with room for as many bytes as all lines
    have.
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
def _take(memory: NDArray[np.uint64], batch: Batch, i: int, word: int) -> np.uint64:
    """Copy page `i`'s lines to the words from `word` on. Not zero: some of them are not."""
    seen = _NOTHING
    mask = batch.masks[i]
    first = batch.pages[i] << 9
    while mask != _NOTHING:
        copy_line(batch.words, word, memory, first + (_lowest(mask) << 3))
        for k in range(8):
            seen |= batch.words[word + k]
        mask &= mask - _ONE
        word += 8
    return seen


@kernel
def _changed(cache: PageCache, slot: int, batch: Batch, i: int, word: int) -> np.uint64:
    """Which of page `i`'s lines, at `word`, are not as they are in the slot."""
    changed = _NOTHING
    mask = batch.masks[i]
    while mask != _NOTHING:
        line = _lowest(mask)
        was = (slot << 9) + (line << 3)
        differ = _NOTHING
        for k in range(8):
            differ |= cache.words[was + k] ^ batch.words[word + k]
        if differ != _NOTHING:
            changed |= _ONE << np.uint64(line)
        mask &= mask - _ONE
        word += 8
    return changed


@kernel
def _encode(
    cache: PageCache,
    slot: int,
    batch: Batch,
    i: int,
    changed: np.uint64,
    word: int,
    to: int,
    limit: int,
) -> int:
    """Page `i`, of whose lines, at `word`, these have changed, against the slot: where it ends.

    -1: it would not end before `limit`.
    """
    described = 0  # bytes of the page
    begin = start = end = -1  # of the run that is open: in the page, in `bytes`, its end
    while changed != _NOTHING:
        line = _lowest(changed)
        at_line = word + (popcount(batch.masks[i] & ((_ONE << np.uint64(line)) - _ONE)) << 3)
        for k in range(8):
            x = cache.words[(slot << 9) + (line << 3) + k] ^ batch.words[at_line + k]
            if x != _NOTHING:
                first = (line << 6) + (k << 3) + _same_bytes_below(x)
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
                    start = (at_line << 3) + first - (line << 6)
                end = (line << 6) + (k << 3) + 8 - _same_bytes_above(x)
        changed &= changed - _ONE
    if begin >= 0:
        to = _put_run(batch.out, to, limit, begin - described, batch.bytes, start, end - begin)
    return to


@kernel
def _store(
    cache: PageCache, slot: int, batch: Batch, i: int, changed: np.uint64, word: int
) -> None:
    """The destination will have page `i`'s lines, at `word`, of which these have changed."""
    mask = batch.masks[i]
    while mask != _NOTHING:
        line = _lowest(mask)
        if changed & (_ONE << np.uint64(line)) != _NOTHING:
            copy_line(cache.words, (slot << 9) + (line << 3), batch.words, word)
        mask &= mask - _ONE
        word += 8


@kernel
def _admit(
    cache: PageCache, batch: Batch, i: int, word: int, now: int, likely: NDArray[np.bool_]
) -> None:
    """Page `i`, at `word`, which was not there, if its slot is to be had.

    What is not `likely` to be sent again takes only a slot that is nobody's, and keeps it until
    somebody comes who is; and not for a zero page.
    """
    page = batch.pages[i]
    slot = page % len(cache.pages)
    free = cache.pages[slot] < 0
    if free or (likely[page] and cache.ages[slot] + LIFETIME <= now):
        cache.pages[slot] = page
        cache.ages[slot] = now if likely[page] else now - LIFETIME
        _store(cache, slot, batch, i, EVERY_LINE, word)


@kernel
def encode(
    memory: NDArray[np.uint64],
    cache: PageCache,
    batch: Batch,
    now: int,
    likely: NDArray[np.bool_],
    keep: bool,
    counters: NDArray[np.int64],
) -> int:
    """Sort a batch of pages (of memory: uint64[512 * n_pages]) by what becomes of them.

    Those that are in the cache go as a delta where that is shorter than their lines; those that are
    zero, as a mark, if all of their lines are asked for. now: the round's number; likely:
    bool[n_pages], see `_admit`; keep: whether deltas will follow later. counters: int64[COUNTERS],
    added to. Returns the bytes of encodings.

    A page of which only some lines are asked for is not taken into the cache: what the destination
    has of its other lines is not known. While the guest runs a line may be torn: it is dirty then.
    """
    to = word = 0
    for i in range(len(batch.pages)):
        page = batch.pages[i]
        slot = page % len(cache.pages)
        hit = cache.pages[slot] == page
        whole = batch.masks[i] == EVERY_LINE
        zero = _take(memory, batch, i, word) == _NOTHING and whole
        size = popcount(batch.masks[i]) * LINE_SIZE
        batch.lengths[i] = 0
        batch.fates[i] = ZERO if zero else WHOLE
        if hit:
            changed = _changed(cache, slot, batch, i, word)
            if not zero:
                counters[HITS] += 1
                end = _encode(cache, slot, batch, i, changed, word, to, to + size)
                if end < 0:
                    counters[OVERFLOWS] += 1
                else:
                    batch.fates[i] = DELTA
                    batch.lengths[i] = end - to
                    to = end
            if keep:
                cache.ages[slot] = now
                _store(cache, slot, batch, i, changed, word)
        else:
            counters[MISSES] += not zero
            if keep and whole and (likely[page] or not zero):
                _admit(cache, batch, i, word, now, likely)
        if batch.fates[i] == WHOLE:
            word += size >> 3
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
