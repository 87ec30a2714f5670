"""The write-back cache: set-associative, least recently used goes first, real data copied.

A set is a row of `ways` entries in order of use, most recent first, and as many slots for data.
An entry is one word: the line's number, a dirty bit and the slot that holds the line, so that the
order of use costs no clock and a hit on the most recent line costs one comparison:

    bit 63 .. 7: line number (all ones: empty)      bit 6: dirty      bit 5 .. 0: slot

A line longer than 64 bytes also has a mask of its dirty 64-byte parts, so that the dirty log
learns exactly what changed. Every vCPU has its own cache; nobody else changes it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.guest.control import (
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
from common.guest.dirty import mark
from common.guest.jit import inlined, kernel
from common.guest.native import copy_line, monotonic_ns, peek_byte

_LINE_BIT: Final = np.uint64(7)
_DIRTY: Final = np.uint64(64)
_SLOT: Final = np.uint64(63)
_BELOW_LINE: Final = np.uint64(128)
_EMPTY: Final = np.uint64(2**64 - 128)
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)

SETS_A_LOOK: Final = 64  # a drain looks at the clock this often


def new_entries(sets: int, ways: int) -> NDArray[np.uint64]:
    """uint64[sets * ways]: an empty cache."""
    entries = aligned(sets * ways, np.uint64)
    entries[:] = _EMPTY | np.tile(np.arange(ways, dtype=np.uint64), sets)
    return entries


@inlined
def _part_mask(m: VcpuArrays, entry: np.uint64, slot: int) -> np.uint64:
    """The dirty 64-byte parts of a dirty line, as bits of its page."""
    line = np.int64(entry >> _LINE_BIT)
    mask = _ONE if m.shift == 0 else m.masks[slot]
    return mask << np.uint64((line << m.shift) & 63)


@inlined
def _write_back(m: VcpuArrays, entry: np.uint64, slot: int) -> None:
    """Copy a dirty line to memory and log it. The entry stays as it is."""
    first = np.int64(entry >> _LINE_BIT) << m.shift
    for part in range(1 << m.shift):
        copy_line(m.words, (first + part) << 3, m.arena, ((slot << m.shift) + part) << 3)
    mark(m, first >> 6, _part_mask(m, entry, slot))
    if m.shift != 0:
        m.masks[slot] = _ZERO


@inlined
def _victim(m: VcpuArrays, row: int) -> int:
    """The position in the row that goes: the last one; while held, the last clean one if any."""
    last = m.ways - 1
    if m.ctl[HOLD] == 0 or m.entries[row + last] & _DIRTY == _ZERO:
        return last
    for way in range(last - 1, -1, -1):
        if m.entries[row + way] & _DIRTY == _ZERO:
            return way
    m.ctl[SPILLS] += 1
    return last


@inlined
def _find(m: VcpuArrays, row: int, key: np.uint64) -> bool:
    """Move the line to the front of its row; False, and nothing has changed, if it is not there."""
    for way in range(1, m.ways):
        entry = m.entries[row + way]
        if entry ^ key < _BELOW_LINE:
            carry = m.entries[row]
            m.entries[row] = entry
            for k in range(1, way + 1):
                entry = m.entries[row + k]
                m.entries[row + k] = carry
                carry = entry
            return True
    return False


@inlined
def _fill(m: VcpuArrays, row: int, line: int) -> None:
    """Bring a line from memory to the front of its row; the victim goes back if it is dirty."""
    way = _victim(m, row)
    entry = m.entries[row + way]
    slot = np.int64(entry & _SLOT)
    if entry & _DIRTY != _ZERO:
        _write_back(m, entry, row + slot)
        m.ctl[WRITE_BACKS] += 1
    first = line << m.shift
    for part in range(1 << m.shift):
        copy_line(m.arena, (((row + slot) << m.shift) + part) << 3, m.words, (first + part) << 3)
    carry = (np.uint64(line) << _LINE_BIT) | np.uint64(slot)
    for k in range(way + 1):
        entry = m.entries[row + k]
        m.entries[row + k] = carry
        carry = entry
    m.ctl[MISSES] += 1


@inlined
def _direct(m: VcpuArrays, part: int, write: bool) -> int:
    """Without a cache: memory itself, every write logged."""
    page = part >> 6
    presence = m.ctl[PRESENCE]
    if presence != 0 and peek_byte(presence, page) == 0:
        return -1 - page
    if write:
        mark(m, page, _ONE << np.uint64(part & 63))
    return part << 3


@inlined
def access(m: VcpuArrays, part: int, write: bool) -> int:
    """Make the 64 bytes number `part` of guest memory ready to be read, or written.

    Returns where they are in `m.arena` (a word index, valid until the next access), or -1 - page if
    their page is missing: then nothing has changed, and the step must be given up as it was.
    """
    if m.ways == 0:
        return _direct(m, part, write)
    line = part >> m.shift
    row = (line & (m.sets - 1)) * m.ways
    key = np.uint64(line) << _LINE_BIT
    if m.entries[row] ^ key < _BELOW_LINE or _find(m, row, key):
        m.ctl[HITS] += 1
    else:
        presence = m.ctl[PRESENCE]
        if presence != 0 and peek_byte(presence, part >> 6) == 0:
            return -1 - (part >> 6)
        _fill(m, row, line)
    entry = m.entries[row]
    slot = row + np.int64(entry & _SLOT)
    within = part & ((1 << m.shift) - 1)
    if write:
        m.entries[row] = entry | _DIRTY
        if m.shift != 0:
            m.masks[slot] |= _ONE << np.uint64(within)
    return ((slot << m.shift) + within) << 3


@kernel
def drain_slice(m: VcpuArrays, until_ns: int) -> bool:
    """Write dirty lines back from the drain's cursor on, and keep them, clean.

    Goes on until the clock says `until_ns`; True when the cursor has been through every set. A line
    dirtied again behind the cursor stays dirty.
    """
    while m.ctl[DRAIN_CURSOR] < m.sets and m.ways != 0:
        first = m.ctl[DRAIN_CURSOR]
        end = min(first + SETS_A_LOOK, m.sets)
        for at in range(first * m.ways, end * m.ways):
            entry = m.entries[at]
            if entry & _DIRTY != _ZERO:
                _write_back(m, entry, at - at % m.ways + np.int64(entry & _SLOT))
                m.entries[at] = entry & ~_DIRTY
                m.ctl[DRAINED_LINES] += 1
        m.ctl[DRAIN_CURSOR] = end
        if monotonic_ns(m.scratch) >= until_ns:
            break
    return m.ways == 0 or m.ctl[DRAIN_CURSOR] >= m.sets


@kernel
def collect_dirty(m: VcpuArrays, out: NDArray[np.uint64]) -> int:
    """OR the masks of dirty lines into `out` (uint64[n_pages]); returns how many lines they are.

    Exact while the vCPU is paused, a guess while it runs.
    """
    lines = 0
    for at in range(m.sets * m.ways):
        entry = m.entries[at]
        if entry & _DIRTY != _ZERO:
            page = (np.int64(entry >> _LINE_BIT) << m.shift) >> 6
            if page < len(out):
                out[page] |= _part_mask(m, entry, at - at % m.ways + np.int64(entry & _SLOT))
                lines += 1
    return lines
