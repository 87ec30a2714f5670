"""Deltas of pages against what the destination has, in QEMU's XBZRLE encoding.

An encoding of a page is a sequence of pairs: how many bytes are unchanged, how many changed, each
an unsigned LEB128 of one or two bytes, and then the changed bytes with their new content. Unchanged
bytes at the page's end are not mentioned; only the first count may be zero. So an encoding is legal
for `xbzrle_decode_buffer` of QEMU (migration/xbzrle.c), and QEMU's encodings are legal here.

Where to cut is the encoder's choice. This one compares words of eight bytes, and trims each run of
changed words to the byte at both of its ends: as short as QEMU's where whole words change, at the
speed of words.

What the destination has is kept in a cache of pages, direct-mapped like QEMU's: a page has one
slot. A page keeps its slot as long as it was of use in one of the last `LIFETIME` rounds (QEMU
counts syncs of its bitmap).
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

WHOLE: Final = 0  # fate of a page: sent whole (or as its changed lines)
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
    """Pages as the destination has them, in direct-mapped slots: page modulo slots.

    Attributes:
        pages: int64[slots], which page is in the slot; -1: none.
        ages: int64[slots], the round in which it was last of use.
        words: uint64[slots * 512], the pages' content.
    """

    pages: NDArray[np.int64]
    ages: NDArray[np.int64]
    words: NDArray[np.uint64]


def new_cache(size: int, n_pages: int) -> PageCache:
    """Make an empty cache, in memory already.

    Args:
        size: Bytes of pages that it may hold; at least one slot is made.
        n_pages: The guest's pages; no more slots than that are made.

    Returns:
        The cache.
    """
    slots = max(1, min(size // PAGE_SIZE, n_pages))
    words = np.empty(slots * PAGE_SIZE // 8, np.uint64)
    words.fill(0)  # first touched here, not in a round
    return PageCache(np.full(slots, -1, np.int64), np.full(slots, 0, np.int64), words)


class DeltaBatch(NamedTuple):
    """Pages that are about to be sent, and what becomes of them.

    Attributes:
        pages: int64[n], page numbers.
        masks: uint64[n], the lines of each that may have changed.
        words: uint64, overwritten: those lines as they are to arrive, of pages whose fate is
            `WHOLE`, side by side; needs room for the lines of all pages.
        bytes: The same memory as `words`, as uint8.
        fates: uint8[n], overwritten: `WHOLE`, `DELTA` or `ZERO`.
        lengths: int64[n], overwritten: bytes of each page's encoding; 0 for those without one.
        out: uint8, overwritten: the encodings, side by side; needs room for as many bytes as all
            lines have.
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
    """Return the number of the lowest bit that is set; the mask must not be zero."""
    return popcount((mask & (~mask + _ONE)) - _ONE)


@inlined
def _same_bytes_below(x: np.uint64) -> int:
    """Count the lowest bytes that are zero; not all may be."""
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
    """Write an unsigned LEB128 of one or two bytes; return where the next byte goes."""
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
    """Write `same` unchanged bytes, then these `n` of `data`.

    Returns where the next byte goes; -1: it would go beyond `limit`.
    """
    if to + 4 + n > limit:
        return -1
    to = _put_count(out, to, same)
    to = _put_count(out, to, n)
    for i in range(n):
        out[to + i] = data[start + i]
    return to + n


@kernel
def _take(memory: NDArray[np.uint64], batch: DeltaBatch, i: int, word: int) -> np.uint64:
    """Copy page `i`'s lines to the words from `word` on; return 0 if they are all zero."""
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
def _changed(cache: PageCache, slot: int, batch: DeltaBatch, i: int, word: int) -> np.uint64:
    """Return which of page `i`'s lines, at `word`, differ from the slot."""
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
    batch: DeltaBatch,
    i: int,
    changed: np.uint64,
    word: int,
    to: int,
    limit: int,
) -> int:
    """Encode page `i` against the slot: those of its lines, at `word`, that have changed.

    Returns where the encoding ends; -1: it would not end before `limit`.
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
                if begin >= 0 and first - end > 2:  # a shorter gap costs less than two counts
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
    cache: PageCache, slot: int, batch: DeltaBatch, i: int, changed: np.uint64, word: int
) -> None:
    """Record what the destination will have: page `i`'s changed lines; all are at `word`."""
    mask = batch.masks[i]
    while mask != _NOTHING:
        line = _lowest(mask)
        if changed & (_ONE << np.uint64(line)) != _NOTHING:
            copy_line(cache.words, (slot << 9) + (line << 3), batch.words, word)
        mask &= mask - _ONE
        word += 8


@kernel
def _admit(
    cache: PageCache, batch: DeltaBatch, i: int, word: int, now: int, likely: NDArray[np.bool_]
) -> None:
    """Put page `i`, at `word`, into the cache, which does not have it, if its slot is available.

    A page that is not `likely` to be sent again takes only an empty slot, and keeps it only until a
    likely one wants it; a zero page does not even get that.
    """
    page = batch.pages[i]
    slot = page % len(cache.pages)
    free = cache.pages[slot] < 0
    if free or (likely[page] and cache.ages[slot] + LIFETIME <= now):
        cache.pages[slot] = page
        cache.ages[slot] = now if likely[page] else now - LIFETIME
        _store(cache, slot, batch, i, EVERY_LINE, word)


@kernel
def _put_delta(
    cache: PageCache,
    slot: int,
    batch: DeltaBatch,
    i: int,
    changed: np.uint64,
    word: int,
    to: int,
    counters: NDArray[np.int64],
) -> int:
    """Put page `i`'s delta at `to`, if it is shorter than its lines; return where the next goes."""
    counters[HITS] += 1
    size = popcount(batch.masks[i]) * LINE_SIZE
    end = _encode(cache, slot, batch, i, changed, word, to, to + size)
    if end < 0:
        counters[OVERFLOWS] += 1
        return to
    batch.fates[i] = DELTA
    batch.lengths[i] = end - to
    return end


@kernel
def encode_batch(
    memory: NDArray[np.uint64],
    cache: PageCache,
    batch: DeltaBatch,
    now: int,
    likely: NDArray[np.bool_],
    keep: bool,
    counters: NDArray[np.int64],
) -> int:
    """Sort a batch of pages by what becomes of them.

    A cached page goes as a delta if that is shorter than its lines; a zero page as a mark, if all
    of its lines are asked for. A page only partly asked for is not admitted: what the destination
    has of the rest is unknown. A line may be torn while the guest runs: it is dirty then.

    Args:
        memory: uint64[512 * n_pages], guest memory.
        cache: Changed.
        batch: Overwritten where it says so.
        now: The round's number.
        likely: bool[n_pages], pages that are likely to be sent again; see `_admit`.
        keep: Whether deltas follow later.
        counters: int64[COUNTERS], added to.

    Returns:
        Bytes of all encodings.
    """
    to = word = 0
    for i in range(len(batch.pages)):
        page = batch.pages[i]
        slot = page % len(cache.pages)
        hit = cache.pages[slot] == page
        whole = batch.masks[i] == EVERY_LINE
        zero = _take(memory, batch, i, word) == _NOTHING and whole
        batch.lengths[i] = 0
        batch.fates[i] = ZERO if zero else WHOLE
        if hit:
            changed = _changed(cache, slot, batch, i, word)
            if not zero:
                to = _put_delta(cache, slot, batch, i, changed, word, to, counters)
            if keep:
                cache.ages[slot] = now
                _store(cache, slot, batch, i, changed, word)
        else:
            counters[MISSES] += not zero
            if keep and whole and (likely[page] or not zero):
                _admit(cache, batch, i, word, now, likely)
        if batch.fates[i] == WHOLE:
            word += popcount(batch.masks[i]) * (LINE_SIZE >> 3)
    return to


@inlined
def _count_at(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Read an unsigned LEB128 of one or two bytes.

    Returns it and where it ends; (-1, at) for anything else.
    """
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
    """Check whether these bytes are an encoding of changes within one page."""
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
    """Change pages of memory as their encodings say; if one is illegal, nothing is written.

    Args:
        memory: uint8[4096 * n_pages], guest memory; changed.
        pages: int64[n], page numbers; all must be the guest's.
        lengths: int64[n], bytes of each encoding; they must add up to those of `data`.
        data: uint8, the encodings, side by side.

    Returns:
        -1, or the index in `pages` of the first illegal encoding.
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
