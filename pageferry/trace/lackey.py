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

No IO here; compiled code reads the lines (`lackey_kernel`). Accesses are as in
`common.files.memory_trace`, but pages are numbered as they first occur: a later address may be
lower. `LackeyParser.numbering` tells at the end how to renumber them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.files.memory_trace import MAX_PAGES
from pageferry.trace.lackey_kernel import (
    AT,
    BAD_SIZE,
    END,
    FETCHES,
    FULL,
    GROW,
    LARGEST,
    LIMIT,
    LINE,
    MADE,
    OTHER,
    PAGE,
    PAGES,
    TOO_LONG,
    TOO_MANY,
    TRAILING,
    move_pages,
    parse,
)

LONGEST: Final = 1 << 20  # bytes of a line: valgrind repeats the command that it runs

_OUT: Final = 1 << 18  # accesses handed out in one go
_FIRST_SLOTS: Final = 1 << 12
_SHOWN: Final = 40  # characters of a malformed line in a message

# Blank, or valgrind's own: a process id between two marks, after the time if there is one.
_REMARK: Final = re.compile(
    rb"\s*|\s*([=*-])\1(?:[0-9:. ]*[:. ])?(?P<id>[0-9]{1,10})\1\1(?P<says>.*)", re.DOTALL
)
_COMMAND: Final = b" Command: "


class LackeyError(ValueError):
    """A text that is not a trace, or does not fit.

    Args:
        line: Where, counted from 1.
        why: In words, with what is there.
        unknown: Whether it is a line that `skip_unknown` passes over.
        mixed: Whether it is of another process, which `mixed` accepts.

    Attributes:
        line: As given; so are `unknown` and `mixed`.
    """

    def __init__(self, line: int, why: str, *, unknown: bool = False, mixed: bool = False) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line
        self.unknown = unknown
        self.mixed = mixed


class LackeyParser:
    """Blocks of text in, accesses out; memory is bounded by the pages that the program touches.

    Args:
        instructions: Whether fetches count as accesses (reads).
        limit: Accesses to take at the most; None takes all.
        skip_unknown: Pass over lines that are not accesses, and count them.
        mixed: Take several processes for one.
        most_pages: A text that touches more is refused.

    Attributes:
        accesses: How many have been handed out.
        unknown: Lines that were passed over because of `skip_unknown`.
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
        self._state[PAGE] = -1
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
        return int(self._state[LINE])

    @property
    def fetches(self) -> int:
        """Instruction fetches among them."""
        return int(self._state[FETCHES])

    @property
    def trailing(self) -> int:
        """Lines whose access was followed by something that was left out."""
        return int(self._state[TRAILING])

    @property
    def processes(self) -> int:
        """Whose accesses these are: ids that valgrind has named, or commands if they are more."""
        return max(len(self._processes), self._commands)

    @property
    def pages(self) -> int:
        """Pages that the accesses so far have touched."""
        return int(self._state[PAGES])

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
            self._state[AT] = 0
            raise self._error(TOO_LONG, self._rest)

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
        self._state[AT] = self._state[MADE] = 0
        while not self.full:
            reason = parse(
                raw,
                self._out,
                self._limit - self.accesses,
                self._keys,
                self._numbers,
                self._most_pages,
                self._state,
                self._instructions,
            )
            if reason == GROW:
                self._grow()
            elif reason == OTHER:
                self._pass_over(text)
            elif reason in (END, LIMIT, FULL):
                made = int(self._state[MADE])
                self.accesses += made
                if made:
                    yield self._out[:made]
                self._state[MADE] = 0
                if reason != FULL:
                    return
            else:
                raise self._error(reason, text)

    def _pass_over(self, text: bytes) -> None:
        """Pass over a line that is not an access. Raises `LackeyError` where it should be one."""
        at = int(self._state[AT])
        end = text.index(b"\n", at)
        if end - at > LONGEST:
            raise self._error(TOO_LONG, text)
        remark = _REMARK.fullmatch(text, at, end)
        if remark is None:
            if not self._skip_unknown:
                raise self._error(OTHER, text)
            self.unknown += 1
        elif remark["id"] is not None:
            self._note_process(remark["id"], remark["says"])
        self._state[AT] = end + 1
        self._state[LINE] += 1

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
        move_pages(self._keys, self._numbers, keys, numbers)
        self._keys, self._numbers = keys, numbers

    def _error(self, reason: int, text: bytes) -> LackeyError:
        at = int(self._state[AT])
        line = repr(text[at : at + 2 * _SHOWN].split(b"\n")[0])[1:]
        shown = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}{line[0]}..."
        why = {
            OTHER: f"{shown} is neither an access, as in ' L 1ffefff8,8', nor valgrind's own",
            BAD_SIZE: f"{shown} is not of 1 to {LARGEST} bytes, or ends beyond the last address",
            TOO_LONG: f"{shown} is longer than {LONGEST >> 20} MiB",
            TOO_MANY: f"{shown} would be in page {self._most_pages + 1:,}, at most"
            f" {self._most_pages:,} fit",
        }[reason]
        if self._cut and reason == OTHER:
            why += "; the text ends there without a line end: was it cut off?"
        return LackeyError(self.lines + 1, why, unknown=reason == OTHER)
