"""The write-back cache: set-associative, evicts the least recently used line, copies real data.

A set is a row of `ways` entries in order of use, most recent first, and as many slots for data. An
entry is one word: the line's number, a dirty bit and the slot that holds the line, so that the
order of use needs no clock and a hit on the most recent line costs one comparison:

    bit 63 .. 7: line number (all ones: empty)      bit 6: dirty      bit 5 .. 0: slot

A line longer than 64 bytes also has a mask of its dirty 64-byte parts, so that the dirty log learns
exactly what changed. Every vCPU has its own cache; nobody else changes it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.control import (
    ACTIVE_LOG,
    DRAIN_CURSOR,
    DRAINED_LINES,
    HITS,
    HOLD,
    MISSES,
    PRESENCE,
    SPILLS,
    WRITE_BACKS,
    VcpuArrays,
    aligned,
)
from pageferry.common.guest.dirty import count_write, count_written_back, mark
from pageferry.common.guest.jit import inlined, kernel
from pageferry.common.guest.native import (
    copy_line,
    find8,
    monotonic_ns,
    peek_byte,
    prefetch,
    push8,
    signed,
)
from pageferry.common.guest.stale import popcount

_LINE_BIT: Final = np.uint64(7)
_DIRTY: Final = np.uint64(64)
_SLOT: Final = np.uint64(63)
_BELOW_LINE: Final = np.uint64(128)
_EMPTY: Final = np.uint64(2**64 - 128)
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)

SETS_A_LOOK: Final = 64  # a drain looks at the clock after so many sets
_GROUP: Final = 8  # a row is padded to whole groups, each searched by one instruction


def new_entries(sets: int, ways: int) -> NDArray[np.uint64]:
    """Make the entries of an empty cache.

    Args:
        sets: How many; a power of two, or 0.
        ways: Lines of a set, at most 64; 0: no cache.

    Returns:
        uint64[sets * stride(ways)].
    """
    entries = aligned(sets * stride(ways), np.uint64)
    entries[:] = _EMPTY
    rows = entries.reshape(sets, -1) if ways else entries.reshape(0, 1)
    rows[:, :ways] |= np.arange(ways, dtype=np.uint64)
    return entries


def stride(ways: int) -> int:
    """Return how many entries lie between the starts of two rows.

    Args:
        ways: Lines of a set.

    Returns:
        At least `ways`: a row is padded to whole groups of eight.
    """
    return -(-ways // _GROUP) * _GROUP


@inlined
def _part_mask(m: VcpuArrays, entry: np.uint64, slot: int) -> np.uint64:
    """Return the dirty 64-byte parts of a dirty line, as bits of its page."""
    line = signed(entry >> _LINE_BIT)
    mask = _ONE if m.shift == 0 else m.masks[slot]
    return mask << np.uint64((line << m.shift) & 63)


@inlined
def _write_back(m: VcpuArrays, entry: np.uint64, slot: int) -> None:
    """Copy a dirty line to memory and log it. The entry stays as it is."""
    first = signed(entry >> _LINE_BIT) << m.shift
    for part in range(1 << m.shift):
        copy_line(m.words, (first + part) << 3, m.arena, ((slot << m.shift) + part) << 3)
    mask = _part_mask(m, entry, slot)
    mark(m, first >> 6, mask)
    count_written_back(m, first >> 6, 1 if m.shift == 0 else popcount(mask))
    if m.shift != 0:
        m.masks[slot] = _ZERO


@inlined
def _victim(m: VcpuArrays, row: int) -> int:
    """Choose the position in the row to evict: the last; while held, the last clean one, if any."""
    last = m.ways - 1
    if m.ctl[HOLD] == 0 or m.entries[row + last] & _DIRTY == _ZERO:
        return last
    for way in range(last - 1, -1, -1):
        if m.entries[row + way] & _DIRTY == _ZERO:
            return way
    m.ctl[SPILLS] += 1
    return last


@inlined
def _push(m: VcpuArrays, row: int, way: int, front: np.uint64) -> None:
    """Put `front` first; what was before `way` moves by one, what was at `way` is gone."""
    at = row
    while way >= _GROUP:
        last = m.entries[at + _GROUP - 1]
        push8(m.entries, at, front, _GROUP - 1)
        front = last
        at += _GROUP
        way -= _GROUP
    push8(m.entries, at, front, way)


@inlined
def _find(m: VcpuArrays, row: int, key: np.uint64) -> int:
    """Return where in its row a line is, behind the first group; -1: nowhere."""
    for start in range(_GROUP, m.stride, _GROUP):
        way = find8(m.entries, row + start, key)
        if way < _GROUP:
            return start + signed(way)
    return -1


@inlined
def _fill(m: VcpuArrays, row: int, line: int, dirty: np.uint64) -> np.uint64:
    """Bring a line from memory to the front of its row; the victim is written back if it is dirty.

    Returns the line's entry, which is in its place.
    """
    way = _victim(m, row)
    entry = m.entries[row + way]
    slot = signed(entry & _SLOT)
    base = (row // m.stride) * m.ways
    if entry & _DIRTY != _ZERO:
        _write_back(m, entry, base + slot)
        m.ctl[WRITE_BACKS] += 1
    first = line << m.shift
    for part in range(1 << m.shift):
        copy_line(m.arena, (((base + slot) << m.shift) + part) << 3, m.words, (first + part) << 3)
    entry = (np.uint64(line) << _LINE_BIT) | np.uint64(slot) | dirty
    m.ctl[MISSES] += 1
    _push(m, row, way, entry)
    return entry


@inlined
def _direct(m: VcpuArrays, part: int, write: bool) -> int:
    """Access memory itself, without a cache; every write is logged."""
    page = part >> 6
    presence = m.ctl[PRESENCE]
    if presence != 0 and peek_byte(presence, page) == 0:
        return -1 - page
    if write:
        mark(m, page, _ONE << np.uint64(part & 63))
        count_write(m, page)
        count_written_back(m, page, 1)
    return part << 3


@inlined
def access(m: VcpuArrays, part: int, write: bool) -> int:
    """Make 64 bytes of guest memory ready to be read or written.

    Args:
        m: What the vCPU works on.
        part: Which 64 bytes: their address in guest memory divided by 64.
        write: Whether they will be written; they are marked dirty now.

    Returns:
        Where they are in `m.arena`: a word index, valid until the next access. Or -1 - page, if
        their page is missing: then nothing has changed, and the step must be given up as it was.
    """
    if m.ways == 0:
        return _direct(m, part, write)
    line = part >> m.shift
    index = line & (m.sets - 1)
    row = index * m.stride
    key = np.uint64(line) << _LINE_BIT
    dirty = _DIRTY if write else _ZERO
    way = find8(m.entries, row, key)
    if way < _GROUP:
        entry = m.entries[np.uint64(row + way)] | dirty
        push8(m.entries, row, entry, way)
        m.ctl[HITS] += 1
    else:
        way = _find(m, row, key)
        if way >= 0:
            entry = m.entries[np.uint64(row + way)] | dirty
            _push(m, row, way, entry)
            m.ctl[HITS] += 1
        else:
            presence = m.ctl[PRESENCE]
            if presence != 0 and peek_byte(presence, part >> 6) == 0:
                return -1 - (part >> 6)
            entry = _fill(m, row, line, dirty)
    slot = index * m.ways + signed(entry & _SLOT)
    within = part & ((1 << m.shift) - 1)
    if write:
        count_write(m, part >> 6)
        if m.shift != 0:
            m.masks[slot] |= _ONE << np.uint64(within)
    return ((slot << m.shift) + within) << 3


@inlined
def approach(m: VcpuArrays, part: int) -> None:
    """Prefetch what an access some steps later will read if it misses.

    Args:
        m: What the vCPU works on.
        part: Which 64 bytes that access is to, as for `access`.
    """
    prefetch(m.words, part << 3)
    if len(m.counts) != 0:
        prefetch(m.counts, part >> 6)
    if m.ways != 0:
        prefetch(m.entries, ((part >> m.shift) & (m.sets - 1)) * m.stride)
        prefetch(m.entries, ((part >> m.shift) & (m.sets - 1)) * m.stride + m.ways - 1)
    else:
        prefetch(m.log, m.ctl[ACTIVE_LOG] + (part >> 6))


@inlined
def approach_victim(m: VcpuArrays, part: int) -> None:
    """Prefetch what evicting a line for a later access will need. The set should be near already.

    Args:
        m: What the vCPU works on.
        part: Which 64 bytes that access is to, as for `access`.
    """
    if m.ways == 0:
        return
    index = (part >> m.shift) & (m.sets - 1)
    entry = m.entries[index * m.stride + m.ways - 1]
    prefetch(m.arena, ((index * m.ways + signed(entry & _SLOT)) << m.shift) << 3)
    if entry & _DIRTY != _ZERO:
        first = signed(entry >> _LINE_BIT) << m.shift
        prefetch(m.words, first << 3)
        prefetch(m.log, m.ctl[ACTIVE_LOG] + (first >> 6))
        if len(m.counts) != 0:
            prefetch(m.counts, (len(m.counts) >> 1) + (first >> 6))


@inlined
def _drain_set(m: VcpuArrays, index: int) -> None:
    row = index * m.stride
    for at in range(row, row + m.ways):
        entry = m.entries[at]
        if entry & _DIRTY != _ZERO:
            _write_back(m, entry, index * m.ways + signed(entry & _SLOT))
            m.entries[at] = entry & ~_DIRTY
            m.ctl[DRAINED_LINES] += 1


@kernel
def drain_slice(m: VcpuArrays, until_ns: int) -> bool:
    """Write dirty lines back, from the drain's cursor on, and keep them in the cache, clean.

    A line that is dirtied again behind the cursor stays dirty.

    Args:
        m: What the vCPU works on; `DRAIN_CURSOR` is advanced. On the vCPU's thread, or before it
            runs.
        until_ns: Stop when CLOCK_MONOTONIC is past this; checked every `SETS_A_LOOK` sets.

    Returns:
        Whether the cursor has been through every set.
    """
    while m.ctl[DRAIN_CURSOR] < m.sets:
        first = m.ctl[DRAIN_CURSOR]
        end = min(first + SETS_A_LOOK, m.sets)
        for index in range(first, end):
            _drain_set(m, index)
        m.ctl[DRAIN_CURSOR] = end
        if monotonic_ns(m.scratch) >= until_ns:
            break
    return bool(m.ctl[DRAIN_CURSOR] >= m.sets)


@kernel
def collect_dirty(m: VcpuArrays, out: NDArray[np.uint64]) -> int:
    """OR the masks of dirty lines into `out`.

    Exact while the vCPU is paused, a guess while it runs.

    Args:
        m: What the vCPU works on; only read.
        out: uint64[n_pages], a bit for each 64-byte line; changed.

    Returns:
        How many cache lines are dirty.
    """
    lines = 0
    for index in range(m.sets):
        for at in range(index * m.stride, index * m.stride + m.ways):
            entry = m.entries[at]
            if entry & _DIRTY != _ZERO:
                page = (signed(entry >> _LINE_BIT) << m.shift) >> 6
                out[page] |= _part_mask(m, entry, index * m.ways + signed(entry & _SLOT))
                lines += 1
    return lines


@kernel
def count_dirty(m: VcpuArrays) -> int:
    """Count the dirty lines of the cache.

    Args:
        m: What the vCPU works on; only read.

    Returns:
        Cache lines, of whatever length.
    """
    lines = 0
    for at in range(m.sets * m.stride):
        entry = m.entries[at]
        if entry & _DIRTY != _ZERO:
            lines += 1
    return lines
