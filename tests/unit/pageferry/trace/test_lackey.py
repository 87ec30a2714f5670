"""The parser of lackey's text against one that is slow and obviously right."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pageferry.trace import lackey
from pageferry.trace.lackey import LONGEST, LackeyError, LackeyParser
from pageferry.trace.lackey_kernel import LARGEST

BEHIND = rb"(?P<more>[ \t].*|\r)?"
ADDRESS = rb"[ \t]+(?:0[xX])?([0-9a-fA-F]{1,16})"
ACCESS = re.compile(rb"[ \t]*([ILSM])" + ADDRESS + rb",([0-9]+)" + BEHIND, re.DOTALL)
BLOCK = re.compile(rb"[ \t]*SB" + ADDRESS + BEHIND, re.DOTALL)
REMARK = re.compile(rb"\s*|\s*(==|--|\*\*)([0-9:.]+ +)*[0-9]{1,10}\1.*", re.DOTALL)

Lines = st.SearchStrategy[bytes]
Access = tuple[int, int, bool]  # page (by address), line of it, whether it is a write


class Malformed(Exception):
    """A line, by its number."""


def plain(text: bytes, instructions: bool = False, skip_unknown: bool = False) -> list[Access]:
    """All of a text, line by line. Raises `Malformed`."""
    found: list[Access] = []
    lines = text.split(b"\n")
    for number, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        match = ACCESS.fullmatch(line)
        if match is None:
            if not known(line) and not skip_unknown:
                raise Malformed(number)
            continue
        kind, first, size = match[1].strip(), int(match[2], 16), int(match[3])
        if not 1 <= size <= LARGEST or first + size > 2**64:
            raise Malformed(number)
        touched = range(first // 64, (first + size - 1) // 64 + 1)
        if kind in (b"L", b"M") or (kind == b"I" and instructions):
            found += [(each // 64, each % 64, False) for each in touched]
        if kind in (b"S", b"M"):
            found += [(each // 64, each % 64, True) for each in touched]
    return found


def known(line: bytes) -> bool:
    return BLOCK.fullmatch(line) is not None or REMARK.fullmatch(line) is not None


def trailing(text: bytes) -> int:
    found = [ACCESS.fullmatch(line) or BLOCK.fullmatch(line) for line in text.split(b"\n")]
    return sum(bool(match and (match["more"] or b"").strip()) for match in found)


def attempt(text: bytes, **options: bool) -> tuple[list[Access], int | None]:
    """`plain`, or the number of the malformed line."""
    try:
        return plain(text, **options), None
    except Malformed as error:
        return [], int(error.args[0])


def parsed(parser: LackeyParser, blocks: list[bytes]) -> list[Access]:
    """What the parser makes of blocks, with the numbering's pages turned back to addresses."""
    parts = [part.copy() for block in blocks for part in parser.feed(block)]
    parts += [part.copy() for part in parser.finish()]
    items = np.concatenate(parts).tolist() if parts else []
    assert len(items) == parser.accesses
    order = parser.numbering().tolist()
    return [(order[item >> 7], item >> 1 & 63, bool(item & 1)) for item in items]


def dense(accesses: list[Access]) -> list[Access]:
    """Pages numbered from 0, in order of their addresses."""
    places = {page: place for place, page in enumerate(sorted({each[0] for each in accesses}))}
    return [(places[page], line, write) for page, line, write in accesses]


def cut(text: bytes, at: list[int]) -> list[bytes]:
    ends = sorted({min(each, len(text)) for each in at} | {0, len(text)})
    return [text[a:b] for a, b in itertools.pairwise(ends)]


ADDRESSES = st.one_of(st.integers(0, 3 * 4096), st.integers(0x1FFEFFF000, 0x1FFF001000))
HIGH = st.integers(2**64 - 200, 2**64 - 1)
SIZES = st.one_of(st.integers(1, 64), st.integers(1, 64), st.sampled_from([65, 4096, LARGEST]))
BAD_SIZES = st.sampled_from([0, LARGEST + 1, 10**30])


def accesses(addresses: st.SearchStrategy[int], sizes: st.SearchStrategy[int]) -> Lines:
    return st.builds(
        lambda kind, address, size, end: f"{kind}{address:08x},{size}{end}".encode(),
        st.sampled_from(["I  ", " L ", " S ", " M ", "L ", "\tS\t", "  M\t 0x", "I 0X", " L  "]),
        addresses,
        sizes,
        st.sampled_from(["", "", "", "\r", " ", "\t\r", " rest of it", "\tx\ry"]),
    )


ACCESSES = accesses(ADDRESSES, SIZES)
OTHERS = st.sampled_from(
    [
        *(b"", b" ", b"\r", b"==12== Command: ls", b"--3-- x", b"**3** y", b"==0:00:1.5 7== z"),
        *(b"SB 0401ab70", b"SB 0401ab70\r", b"SB ", b"SB x", b"SBx", b"=== title ===", b"==x=="),
        *(b"total 12", b" L", b" L ", b" L 12", b" L 12,", b" L ,8", b" L 12,8 ", b" L g,8"),
        *(b"L 12,8", b" I 12,8", b"I 12,8", b"S  12,8", b" L 12345678123456781,8", b" X 12,8"),
        *(b" L 12,-8", b" L 0x,8", b"I", b" ", b"I  ", b" S\r", b" L 12\r,8", b"\xff\0", b"===="),
        *(b"SB 0x12 y", b"\tSB\t12", b"L12,8", b" L 12,8x", b" L 12, 8", b" L 12 ,8", b"l 12,8"),
    ]
)
LIKELY = st.lists(st.one_of(ACCESSES, st.sampled_from([b"", b"==1== x"])), max_size=30)
ANY = st.lists(
    st.one_of(ACCESSES, ACCESSES, OTHERS, accesses(HIGH, SIZES), accesses(ADDRESSES, BAD_SIZES))
    | st.binary(max_size=6),
    max_size=12,
)


class TestAgainstThePlainOne:
    @given(st.one_of(LIKELY, ANY), st.booleans(), st.booleans(), st.lists(st.integers(0, 600)))
    def test_it_parses_as_the_plain_parser_does(
        self, lines: list[bytes], ended: bool, instructions: bool, cuts: list[int]
    ) -> None:
        text = b"\n".join(lines) + b"\n" * ended
        parser = LackeyParser(instructions=instructions, mixed=True)
        expected, wrong = attempt(text, instructions=instructions)
        if wrong is None:
            assert parsed(parser, cut(text, cuts)) == dense(expected)
            assert parser.lines == text.count(b"\n") + (not text.endswith(b"\n") and text != b"")
            assert parser.trailing == trailing(text)
            return
        with pytest.raises(LackeyError) as found:
            parsed(parser, cut(text, cuts))
        assert found.value.line == wrong
        assert "\n" not in str(found.value)

    @given(st.lists(st.one_of(ACCESSES, OTHERS), max_size=20), st.lists(st.integers(0, 400)))
    def test_unknown_lines_are_passed_over(self, lines: list[bytes], cuts: list[int]) -> None:
        text = b"\n".join(lines)
        parser = LackeyParser(skip_unknown=True, mixed=True)
        expected, wrong = attempt(text, instructions=False, skip_unknown=True)
        if wrong is None:
            assert parsed(parser, cut(text, cuts)) == dense(expected)
            others = [line for line in text.split(b"\n") if not ACCESS.fullmatch(line)]
            assert parser.unknown == sum(not known(line) for line in others)
            return
        with pytest.raises(LackeyError) as found:
            parsed(parser, cut(text, cuts))
        assert found.value.line == wrong
        assert not found.value.unknown

    @given(LIKELY, st.integers(1, 60))
    def test_the_first_accesses_only(self, lines: list[bytes], limit: int) -> None:
        text = b"\n".join(lines)
        expected, wrong = attempt(text, instructions=True)
        assume(wrong is None)
        expected = expected[:limit]
        parser = LackeyParser(instructions=True, limit=limit)
        assert parsed(parser, [text]) == dense(expected)
        assert parser.full == (len(expected) == limit)
        assert parser.pages == len({each[0] for each in expected})

    def test_every_place_to_cut(self) -> None:
        text = (
            b"==1== Lackey\r\n\nI  0401ab70,3\n L 1fff000ffc,8\nSB 12\n M 10,100\r\n S ffff,2\n"
            b"--1-- x\n L 1fff000000,64"
        )
        expected = dense(plain(text))
        assert len(expected) == 9
        for at in range(len(text) + 1):
            assert parsed(LackeyParser(), [text[:at], text[at:]]) == expected
        assert parsed(LackeyParser(), [bytes([byte]) for byte in text]) == expected


def many(lines: int, pages: int) -> Iterator[str]:
    """Accesses that visit pages from the last to the first, over and over."""
    for number in range(lines):
        yield f" {'LS'[number % 2]} {(pages - 1 - number % pages) * 4096 + number % 8 * 64:x},8\n"


class TestLongTexts:
    def test_many_pages_and_more_accesses_than_are_handed_out_at_once(self) -> None:
        text = "".join(many(300_000, 10_007)).encode()
        expected = dense(plain(text))
        parser = LackeyParser()
        assert parsed(parser, cut(text, list(range(0, len(text), 1 << 20)))) == expected
        assert parser.lines == 300_000

    def test_a_large_block_of_large_accesses(self) -> None:
        text = b" M 3f,65536\n" * 2000
        assert len(parsed(LackeyParser(), [text])) == 2000 * 2 * 1025

    @pytest.mark.parametrize("wrong", ["total 12", " L 12,0"])
    def test_a_malformed_line_beyond_the_first_block(self, wrong: str) -> None:
        lines = list(many(200_000, 5))
        lines[170_000] = f"{wrong}\n"
        text = "".join(lines).encode()
        with pytest.raises(LackeyError, match=f"^line 170001: '{wrong}' is "):
            parsed(LackeyParser(), cut(text, list(range(0, len(text), 1 << 20))))

    def test_what_follows_the_limit_is_not_looked_at(self) -> None:
        parser = LackeyParser(limit=2)
        assert len(parsed(parser, [b" M 0,1\nnonsense\n", b"x" * (LONGEST + 1), b"x"])) == 2

    def test_pages_have_a_limit(self) -> None:
        text = b" L 0,8\n L 2000,8\n S 1000,8\n L 2000,8\n L 2ffc,8\n"
        with pytest.raises(LackeyError, match=r"^line 5: .* in page 4, at most 3 fit$"):
            parsed(LackeyParser(most_pages=3), [text])
        assert len(parsed(LackeyParser(most_pages=4), [text])) == 6

    @pytest.mark.parametrize("step", [1 << 16, 3 * LONGEST])
    @pytest.mark.parametrize("ended", [True, False])
    def test_a_line_has_a_limit(self, step: int, ended: bool) -> None:
        start, end = b" L 0,8\n", b"\n" * ended
        for length, fits in ((LONGEST, True), (LONGEST + 1, False)):
            text = start + b"==1==".ljust(length, b"x") + end
            blocks = cut(text, list(range(0, len(text), step)))
            if fits:
                assert parsed(LackeyParser(), blocks) == [(0, 0, False)]
            else:
                with pytest.raises(LackeyError, match=r"^line 2: '==1==x*'\.\.\. is longer than"):
                    parsed(LackeyParser(skip_unknown=True), blocks)


class TestProcesses:
    """Whose accesses they are, valgrind says at a process's start and at its end."""

    ONE = b"==7== Command: ls\n L 1,1\n==7== \n--7-- warning\n==00:00:01.5 7== Exit code: 0\n"

    def test_accesses_of_one_process_are_taken(self) -> None:
        parser = LackeyParser()
        assert len(parsed(parser, [self.ONE])) == 1
        assert parser.processes == 1

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (b"==8== Command: cat\n", "^line 6: processes 7 and 8 have written here"),
            (b"**12** \n", "processes 7 and 12"),
            (b"==00:00:01.6 8== \n", "processes 7 and 8"),
            (b"==7== Command: cat\n", "process 7 goes on with another program"),
        ],
    )
    def test_accesses_of_two_processes_are_refused(self, more: bytes, says: str) -> None:
        text = self.ONE + more + b" L 2,1\n"
        with pytest.raises(LackeyError, match=says) as error:
            parsed(LackeyParser(skip_unknown=True), [text])
        assert error.value.mixed
        assert not error.value.unknown
        parser = LackeyParser(mixed=True)
        assert len(parsed(parser, [text])) == 2
        assert parser.processes == 2

    def test_a_number_that_is_no_process_is_nothing_that_valgrind_says(self) -> None:
        with pytest.raises(LackeyError, match="neither an access"):
            parsed(LackeyParser(), [b"==" + b"1" * 5000 + b"== x\n"])


class TestMessages:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (b"I  1,1\nls: no\n", "line 2: 'ls: no' is neither an access, as in ' L 1ffefff8,8'"),
            (b" L 12,0\n", "line 1: ' L 12,0' is not of 1 to 65536 bytes"),
            (b" L ffffffffffffffff,2\n", "ends beyond the last address"),
            (b"\n L 12", "line 2: .* without a line end: was it cut off"),
            (b"\x1b[31mred\n", r"line 1: '\\x1b\[31mred' is neither"),
        ],
    )
    def test_one_line_that_shows_the_text(self, text: bytes, says: str) -> None:
        with pytest.raises(LackeyError, match=says) as error:
            parsed(LackeyParser(), [text])
        assert str(error.value).isprintable()

    def test_a_long_line_is_shown_shortened(self) -> None:
        with pytest.raises(LackeyError) as error:
            parsed(LackeyParser(), [bytes(range(128, 256)) * 100])
        assert len(str(error.value)) < 200

    def test_lines_of_each_kind_are_counted(self) -> None:
        parser = LackeyParser()
        text = b"==1== x\nI  1,1\nSB 1\nI  2,1\n S 1,1\n"
        assert len(parsed(parser, [text])) == 1
        assert (parser.lines, parser.fetches, parser.unknown, parser.pages) == (5, 2, 0, 1)


def test_the_table_of_pages_starts_smaller_than_the_tests_fill_it() -> None:
    assert lackey._FIRST_SLOTS < 10_007
    assert lackey._OUT < 300_000
