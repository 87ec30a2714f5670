"""From the text of valgrind's `--tool=lackey --trace-mem=yes` to accesses: a stream in blocks.

    I  0401ab70,3        an instruction of 3 bytes is fetched
     L 1fff000778,8      8 bytes are read
     S 1fff000770,8      8 bytes are written
     M 04225e68,8        8 bytes are read, then written
    SB 0401ab70          a block of instructions is entered (`--trace-superblocks=yes`)
    ==6427== Command: ls what valgrind itself says, also between `--` or `**`, also with a time

Addresses are hexadecimal, sizes decimal. An access is to one 64-byte line: a line of text makes as
many accesses as it touches lines of memory. What editors and shells do to such a text is forgiven:
leading blanks lost or added, tabs for blanks, `0x` before an address, and words behind a whole
access, which are counted. Anything else is malformed, and named by its line number: a program's own
output can't be told from a damaged trace. Addresses of two processes mean two memories, and no
access tells whose it is: only valgrind's own lines have the process's id, at its start and end. So
a second id is refused, or a second command of one id (it has called exec).

No IO here. Accesses are as in `common.files.memory_trace`, but pages are numbered as they first
occur: a later address may be lower. `LackeyParser.numbering` tells at the end how to renumber them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.files.memory_trace import LINE_SHIFT, MAX_PAGES, PAGE_SHIFT
from pageferry.common.guest.jit import kernel
from pageferry.common.guest.native import signed

LONGEST: Final = 1 << 20  # bytes of a line: valgrind repeats the command that it runs
LARGEST: Final = 1 << 16  # bytes of an access: the largest instruction saves a few KiB

_OUT: Final = 1 << 18  # accesses handed out in one go
_PER_LINE: Final = 2 * (LARGEST // 64 + 1)  # the most accesses that a line of text makes
_NEW_PAGES: Final = LARGEST // 4096 + 1
_FIRST_SLOTS: Final = 1 << 12
_SHOWN: Final = 40  # characters of a malformed line in a message

# Words of the kernel's state, which outlives its calls. _PAGE, _NUMBER: of the last access.
_AT, _LINE, _FETCHES, _MADE, _PAGES, _PAGE, _NUMBER, _TRAILING = range(8)

# Why the kernel has returned.
_END, _FULL, _GROW, _LIMIT, _OTHER, _BAD_SIZE, _TOO_LONG, _TOO_MANY = range(8)

_LF, _CR, _SPACE, _TAB, _COMMA, _ZERO = (ord(each) for each in "\n\r \t,0")
_I, _L, _S, _M, _B = (ord(each) for each in "ILSMB")
_X, _LARGE_X = ord("x"), ord("X")
_LINE_BITS: Final = np.uint64(6)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_NO_DIGIT: Final = 16
_DIGITS: Final = np.full(256, _NO_DIGIT, np.uint8)
for _each in "0123456789abcdefABCDEF":
    _DIGITS[ord(_each)] = int(_each, 16)

# Blank, or valgrind's own: a process id between two marks, after the time if there is one.
_REMARK: Final = re.compile(
    rb"\s*|\s*([=*-])\1(?:[0-9:. ]*[:. ])?(?P<id>[0-9]{1,10})\1\1(?P<says>.*)", re.DOTALL
)
_COMMAND: Final = b" Command: "


class LackeyError(ValueError):
    """A text that is not a trace, or does not fit.

    Args:
        unknown: Whether it is a line that `skip_unknown` passes over.
        mixed: Whether it is of another process, which `mixed` accepts.
    """

    def __init__(self, line: int, why: str, *, unknown: bool = False, mixed: bool = False) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line  # counted from 1
        self.unknown = unknown
        self.mixed = mixed


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
def _move(
    keys: NDArray[np.uint64],
    numbers: NDArray[np.uint32],
    to_keys: NDArray[np.uint64],
    to_numbers: NDArray[np.uint32],
) -> None:
    """Move all pages into a larger table."""
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

    low, high: lines of memory; reason: why it is malformed, or _END; more: whether words follow. No
    line is shorter than its LF: looking at one byte after another never passes the text's end.
    """
    kind, start = _begins(text, at)
    where, address = _address(text, start)
    if kind == _B and where > start:
        after, more = _line_end(text, where)
        return after, _B, 0, 0, (_END if after >= 0 else _OTHER), more
    if kind == 0 or where == start or text[where] != _COMMA:
        return at, 0, 0, 0, _OTHER, False
    where += 1
    start, size = where, 0
    while _ZERO <= text[where] <= _ZERO + 9:
        size = min(size * 10 + signed(text[where]) - _ZERO, LARGEST + 1)
        where += 1
    after, more = _line_end(text, where)
    last = address + np.uint64(size - 1)
    if where == start or after < 0:
        return at, 0, 0, 0, _OTHER, False
    if size < 1 or size > LARGEST or last < address:
        return at, 0, 0, 0, _BAD_SIZE, False
    low, high = signed(address >> _LINE_BITS), signed(last >> _LINE_BITS)
    return after, kind, low, high, _END, more


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
    """Make one access to each line from `low` to `high`. Returns _END, _LIMIT or _TOO_MANY."""
    for line in range(low, high + 1):
        if state[_MADE] == limit:
            return _LIMIT
        page = line >> 6
        if page != state[_PAGE]:
            slot = _find(keys, page)
            if keys[slot] == 0:
                if state[_PAGES] == most_pages:
                    return _TOO_MANY
                keys[slot] = np.uint64(page + 1)
                numbers[slot] = state[_PAGES]
                state[_PAGES] += 1
            state[_PAGE], state[_NUMBER] = page, numbers[slot]
        out[state[_MADE]] = state[_NUMBER] << PAGE_SHIFT | (line & 63) << LINE_SHIFT | write
        state[_MADE] += 1
    return _END


@kernel
def _parse(
    text: NDArray[np.uint8],
    out: NDArray[np.uint32],
    limit: int,
    keys: NDArray[np.uint64],
    numbers: NDArray[np.uint32],
    most_pages: int,
    state: NDArray[np.int64],
    instructions: bool,
) -> int:
    """Read whole lines of `text` from state[_AT] to its end, or until there is a reason to stop.

    The line that is the reason is not taken. Fills `out` from state[_MADE] up to `limit` accesses.
    """
    while state[_AT] < len(text):
        if state[_MADE] == limit:
            return _LIMIT
        if len(out) - state[_MADE] < _PER_LINE:
            return _FULL
        if 4 * (state[_PAGES] + _NEW_PAGES) > 3 * len(keys):
            return _GROW
        after, kind, low, high, reason, more = _scan(text, state[_AT])
        if reason != _END:
            return reason
        state[_FETCHES] += kind == _I
        if kind in (_L, _M) or (kind == _I and instructions):
            reason = _touch(out, limit, keys, numbers, most_pages, state, low, high, 0)
        if kind in (_S, _M) and reason == _END:
            reason = _touch(out, limit, keys, numbers, most_pages, state, low, high, 1)
        if reason != _END:
            return reason
        state[_AT] = after
        state[_LINE] += 1
        state[_TRAILING] += more
    return _END


class LackeyParser:
    """Blocks of text in, accesses out; memory is bounded by the pages that the program touches.

    Args:
        instructions: Whether fetches count as accesses (reads).
        limit: Accesses to take at the most; None takes all.
        skip_unknown: Pass over lines that are not accesses, and count them.
        mixed: Take several processes for one.
        most_pages: A text that touches more is refused.
    """

    def __init__(
        self,
        *,
        instructions: bool = False,
        limit: int | None = None,
        skip_unknown: bool = False,
        mixed: bool = False,
        most_pages: int = MAX_PAGES,
    ) -> None:
        self.accesses = 0
        self.unknown = 0
        self._limit = 2**62 if limit is None else limit
        self._instructions = instructions
        self._skip_unknown = skip_unknown
        self._mixed = mixed
        self._processes: set[bytes] = set()
        self._commands = 0
        self._most_pages = most_pages
        self._state = np.zeros(8, np.int64)
        self._state[_PAGE] = -1
        self._out = np.empty(_OUT, np.uint32)
        self._keys = np.zeros(_FIRST_SLOTS, np.uint64)
        self._numbers = np.zeros(_FIRST_SLOTS, np.uint32)
        self._rest = b""
        self._cut = False

    @property
    def full(self) -> bool:
        """Whether `limit` is reached: what follows is not looked at."""
        return self.accesses == self._limit

    @property
    def lines(self) -> int:
        """Lines that have been taken."""
        return int(self._state[_LINE])

    @property
    def fetches(self) -> int:
        """Instruction fetches among them."""
        return int(self._state[_FETCHES])

    @property
    def trailing(self) -> int:
        """Lines whose access was followed by something that was left out."""
        return int(self._state[_TRAILING])

    @property
    def processes(self) -> int:
        """Whose accesses these are: ids that valgrind has named, or commands if they are more."""
        return max(len(self._processes), self._commands)

    @property
    def pages(self) -> int:
        """Pages that the accesses so far have touched."""
        return int(self._state[_PAGES])

    def feed(self, block: bytes) -> Iterator[NDArray[np.uint32]]:
        """Parse the lines that end in a block.

        Args:
            block: The next part of the text. Its last line waits if it has no end.

        Yields:
            uint32[n]: accesses; each array holds until the next one is asked for.

        Raises:
            LackeyError: A line is wrong, or is of one page or one process too many.
        """
        text = self._rest + block
        end = text.rfind(b"\n") + 1
        self._rest = text[end:]
        yield from self._lines(text[:end])
        if len(self._rest) > LONGEST and not self.full:
            self._state[_AT] = 0
            raise self._error(_TOO_LONG, self._rest)

    def finish(self) -> Iterator[NDArray[np.uint32]]:
        """Parse a last line that has no end.

        Yields:
            As `feed`, and it raises the same.
        """
        if self._rest:
            text, self._rest, self._cut = self._rest + b"\n", b"", True
            yield from self._lines(text)

    def numbering(self) -> NDArray[np.uint32]:
        """Compute how pages are renumbered in order of their addresses.

        Returns:
            uint32[pages]: by the number that a page was given, its place.
        """
        used = np.flatnonzero(self._keys)
        by_address = self._numbers[used[np.argsort(self._keys[used])]]
        numbering = np.empty(len(used), np.uint32)
        numbering[by_address] = np.arange(len(used), dtype=np.uint32)
        return numbering

    def _lines(self, text: bytes) -> Iterator[NDArray[np.uint32]]:
        raw = np.frombuffer(text, np.uint8)
        self._state[_AT] = self._state[_MADE] = 0
        while not self.full:
            reason = _parse(
                raw,
                self._out,
                self._limit - self.accesses,
                self._keys,
                self._numbers,
                self._most_pages,
                self._state,
                self._instructions,
            )
            if reason == _GROW:
                self._grow()
            elif reason == _OTHER:
                self._pass_over(text)
            elif reason in (_END, _LIMIT, _FULL):
                made = int(self._state[_MADE])
                self.accesses += made
                if made:
                    yield self._out[:made]
                self._state[_MADE] = 0
                if reason != _FULL:
                    return
            else:
                raise self._error(reason, text)

    def _pass_over(self, text: bytes) -> None:
        """Pass over a line that is not an access. Raises `LackeyError` where it should be one."""
        at = int(self._state[_AT])
        end = text.index(b"\n", at)
        if end - at > LONGEST:
            raise self._error(_TOO_LONG, text)
        remark = _REMARK.fullmatch(text, at, end)
        if remark is None:
            if not self._skip_unknown:
                raise self._error(_OTHER, text)
            self.unknown += 1
        elif remark["id"] is not None:
            self._note_process(remark["id"], remark["says"])
        self._state[_AT] = end + 1
        self._state[_LINE] += 1

    def _note_process(self, number: bytes, says: bytes) -> None:
        """Take note of a process that valgrind names. Raises `LackeyError` if it is another one."""
        before = self.processes
        self._processes.add(number)
        self._commands += says.startswith(_COMMAND)
        if self._mixed or self.processes <= max(before, 1):
            return
        if len(self._processes) > 1:
            first, other = (int(each) for each in sorted(self._processes, key=int))
            why = f"processes {first} and {other} have written here"
        else:
            why = f"process {int(number)} goes on with another program"
        raise LackeyError(
            self.lines + 1,
            f"{why}, and nobody can tell whose an access is: record each into a file of its own"
            " (--log-file=trace.%p) and import one",
            mixed=True,
        )

    def _grow(self) -> None:
        keys = np.zeros(2 * len(self._keys), np.uint64)
        numbers = np.zeros(len(keys), np.uint32)
        _move(self._keys, self._numbers, keys, numbers)
        self._keys, self._numbers = keys, numbers

    def _error(self, reason: int, text: bytes) -> LackeyError:
        at = int(self._state[_AT])
        line = repr(text[at : at + 2 * _SHOWN].split(b"\n")[0])[1:]
        shown = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}{line[0]}..."
        why = {
            _OTHER: f"{shown} is neither an access, as in ' L 1ffefff8,8', nor valgrind's own",
            _BAD_SIZE: f"{shown} is not of 1 to {LARGEST} bytes, or ends beyond the last address",
            _TOO_LONG: f"{shown} is longer than {LONGEST >> 20} MiB",
            _TOO_MANY: f"{shown} would be in page {self._most_pages + 1:,}, at most"
            f" {self._most_pages:,} fit",
        }[reason]
        if self._cut and reason == _OTHER:
            why += "; the text ends there without a line end: was it cut off?"
        return LackeyError(self.lines + 1, why, unknown=reason == _OTHER)
