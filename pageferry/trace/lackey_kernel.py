"""Lackey's lines to accesses, compiled: whole lines of a block, until there is a reason to stop."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.files.memory_trace import LINE_SHIFT, PAGE_SHIFT
from pageferry.common.guest.jit import kernel
from pageferry.common.guest.native import signed

LARGEST: Final = 1 << 16  # bytes of an access: the largest instruction saves a few KiB
_PER_LINE: Final = 2 * (LARGEST // 64 + 1)  # the most accesses that a line of text makes
_NEW_PAGES: Final = LARGEST // 4096 + 1

# Words of the kernel's state, which outlives its calls. PAGE, NUMBER: of the last access.
AT, LINE, FETCHES, MADE, PAGES, PAGE, NUMBER, TRAILING = range(8)

# Why the kernel has returned.
END, FULL, GROW, LIMIT, OTHER, BAD_SIZE, TOO_LONG, TOO_MANY = range(8)

_LF, _CR, _SPACE, _TAB, _COMMA, _ZERO = (ord(each) for each in "\n\r \t,0")
_I, _L, _S, _M, _B = (ord(each) for each in "ILSMB")
_X, _LARGE_X = ord("x"), ord("X")
_LINE_BITS: Final = np.uint64(6)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_NO_DIGIT: Final = 16
_DIGITS: Final = np.full(256, _NO_DIGIT, np.uint8)
for _each in "0123456789abcdefABCDEF":
    _DIGITS[ord(_each)] = int(_each, 16)


@kernel
def _find(keys: NDArray[np.uint64], page: int) -> int:
    """Find the slot of a page, or the free one where it belongs. keys: page + 1; 0 is free."""
    mask = len(keys) - 1
    key = np.uint64(page + 1)
    slot = signed((key * _GOLDEN) >> np.uint64(32)) & mask
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@kernel
def move_pages(
    keys: NDArray[np.uint64],
    numbers: NDArray[np.uint32],
    to_keys: NDArray[np.uint64],
    to_numbers: NDArray[np.uint32],
) -> None:
    """Move all pages into a larger table.

    Args:
        keys: uint64[slots], page + 1; 0: the slot is free.
        numbers: uint32[slots], the number that each page was given.
        to_keys: Likewise, of the larger table; all free, filled.
        to_numbers: Likewise.
    """
    for slot in range(len(keys)):
        if keys[slot] != 0:
            there = _find(to_keys, signed(keys[slot]) - 1)
            to_keys[there] = keys[slot]
            to_numbers[there] = numbers[slot]


@kernel
def _address(text: NDArray[np.uint8], at: int) -> tuple[int, np.uint64]:
    """Read the hexadecimal number at `at`: its end (`at` if it is none of 64 bits), its value."""
    where, address = at, np.uint64(0)
    digit = _DIGITS[text[where]]
    while digit != _NO_DIGIT:
        address = (address << np.uint64(4)) | np.uint64(digit)
        where += 1
        digit = _DIGITS[text[where]]
    return (where if where <= at + 16 else at), address


@kernel
def _past_blanks(text: NDArray[np.uint8], at: int) -> int:
    """Find the first place from `at` on that is neither a blank nor a tab."""
    while text[at] == _SPACE or text[at] == _TAB:
        at += 1
    return at


@kernel
def _line_end(text: NDArray[np.uint8], at: int) -> tuple[int, bool]:
    """Find the next line (-1: no field ends at `at`), and whether words come before it."""
    where = _past_blanks(text, at)
    if text[where] == _LF:
        return where + 1, False
    if text[where] == _CR and text[where + 1] == _LF:
        return where + 2, False
    if where == at:
        return -1, False
    while text[where] != _LF:
        where += 1
    return where + 1, True


@kernel
def _begins(text: NDArray[np.uint8], at: int) -> tuple[int, int]:
    """Find the kind of the line at `at`, 0 for none, and where its address begins."""
    where = _past_blanks(text, at)
    kind = signed(text[where])
    if kind == _S and text[where + 1] == _B:
        kind, where = _B, where + 1
    elif kind not in (_I, _L, _S, _M):
        return 0, at
    start = _past_blanks(text, where + 1)
    if start == where + 1:
        return 0, at
    if text[start] == _ZERO and text[start + 1] in (_X, _LARGE_X):
        start += 2
    return kind, start


@kernel
def _scan(text: NDArray[np.uint8], at: int) -> tuple[int, int, int, int, int, bool]:
    """Read the line at `at`: (after, kind, low, high, reason, more); a line without access is _B.

    low, high: lines of memory; reason: why it is malformed, or END; more: whether words follow. No
    line is shorter than its LF: looking at one byte after another never passes the text's end.
    """
    kind, start = _begins(text, at)
    where, address = _address(text, start)
    if kind == _B and where > start:
        after, more = _line_end(text, where)
        return after, _B, 0, 0, (END if after >= 0 else OTHER), more
    if kind == 0 or where == start or text[where] != _COMMA:
        return at, 0, 0, 0, OTHER, False
    where += 1
    start, size = where, 0
    while _ZERO <= text[where] <= _ZERO + 9:
        size = min(size * 10 + signed(text[where]) - _ZERO, LARGEST + 1)
        where += 1
    after, more = _line_end(text, where)
    last = address + np.uint64(size - 1)
    if where == start or after < 0:
        return at, 0, 0, 0, OTHER, False
    if size < 1 or size > LARGEST or last < address:
        return at, 0, 0, 0, BAD_SIZE, False
    low, high = signed(address >> _LINE_BITS), signed(last >> _LINE_BITS)
    return after, kind, low, high, END, more


@kernel
def _touch(
    out: NDArray[np.uint32],
    limit: int,
    keys: NDArray[np.uint64],
    numbers: NDArray[np.uint32],
    most_pages: int,
    state: NDArray[np.int64],
    low: int,
    high: int,
    write: int,
) -> int:
    """Make one access to each line from `low` to `high`. Returns END, LIMIT or TOO_MANY."""
    for line in range(low, high + 1):
        if state[MADE] == limit:
            return LIMIT
        page = line >> 6
        if page != state[PAGE]:
            slot = _find(keys, page)
            if keys[slot] == 0:
                if state[PAGES] == most_pages:
                    return TOO_MANY
                keys[slot] = np.uint64(page + 1)
                numbers[slot] = state[PAGES]
                state[PAGES] += 1
            state[PAGE], state[NUMBER] = page, numbers[slot]
        out[state[MADE]] = state[NUMBER] << PAGE_SHIFT | (line & 63) << LINE_SHIFT | write
        state[MADE] += 1
    return END


@kernel
def parse(
    text: NDArray[np.uint8],
    out: NDArray[np.uint32],
    limit: int,
    keys: NDArray[np.uint64],
    numbers: NDArray[np.uint32],
    most_pages: int,
    state: NDArray[np.int64],
    instructions: bool,
) -> int:
    """Read whole lines of `text` from state[AT] to its end, or until there is a reason to stop.

    The line that is the reason is not taken.

    Args:
        text: Ends with LF.
        out: Filled with accesses from state[MADE] on.
        limit: state[MADE] gets no higher.
        keys: uint64[slots], a power of two of them: page + 1; 0: the slot is free. Changed.
        numbers: uint32[slots], the number that each page was given. Changed.
        most_pages: The most that are numbered.
        state: Changed; see the words above.
        instructions: Whether fetches count as accesses.

    Returns:
        The reason; `END`: there is none, all of the text was read.
    """
    while state[AT] < len(text):
        if state[MADE] == limit:
            return LIMIT
        if len(out) - state[MADE] < _PER_LINE:
            return FULL
        if 4 * (state[PAGES] + _NEW_PAGES) > 3 * len(keys):
            return GROW
        after, kind, low, high, reason, more = _scan(text, state[AT])
        if reason != END:
            return reason
        state[FETCHES] += kind == _I
        if kind in (_L, _M) or (kind == _I and instructions):
            reason = _touch(out, limit, keys, numbers, most_pages, state, low, high, 0)
        if kind in (_S, _M) and reason == END:
            reason = _touch(out, limit, keys, numbers, most_pages, state, low, high, 1)
        if reason != END:
            return reason
        state[AT] = after
        state[LINE] += 1
        state[TRAILING] += more
    return END
