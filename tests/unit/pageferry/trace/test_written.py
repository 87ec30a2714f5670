"""What a trace writes within a window, counted by hand and by sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.files.memory_trace import LINE_SHIFT, PAGE_SHIFT
from pageferry.trace.written import written_within


def access(page: int, line: int, *, write: bool) -> int:
    return page << PAGE_SHIFT | line << LINE_SHIFT | write


def test_one_window_counted_by_hand() -> None:
    trace = np.array(
        [
            access(0, 3, write=True),
            access(0, 3, write=True),
            access(0, 4, write=True),
            access(1, 63, write=True),
            access(2, 0, write=False),
        ],
        np.uint32,
    )
    found = written_within(trace, 5)
    assert (found.accesses, found.places, found.pages, found.pages_touched) == (5, 1, 2, 3)
    assert found.lines == found.median_lines == 1.5
    assert found.writes == 4 / 5
    assert found.writes_per_line == 4 / 3


def test_nothing_is_written() -> None:
    found = written_within(np.array([access(5, 1, write=False)] * 4, np.uint32), 2)
    assert (found.places, found.pages, found.lines, found.writes_per_line) == (2, 0, 0, 0)


@pytest.mark.parametrize("length", [0, -1, 5])
def test_no_window_fits(length: int) -> None:
    with pytest.raises(ValueError, match="no window"):
        written_within(np.zeros(4, np.uint32), length)


@pytest.mark.parametrize("lines", [1, 7, 64])
def test_a_guest_of_the_map_has_its_place_s_lines_and_working_set(lines: int) -> None:
    """As `uniform` writes: the same lines of random pages, first to last, its stack in between."""
    pages, visits = 40, 1000
    drawn = np.random.default_rng(3).integers(1, pages, visits)
    trace = np.array(
        [
            each
            for page in drawn.tolist()
            for line in range(lines)
            for each in (access(page, line, write=True), access(0, line % 2, write=False))
        ],
        np.uint32,
    )
    for length in (len(trace), len(trace) // 2 // (2 * lines) * 2 * lines):
        found = written_within(trace, length)
        assert (found.pages, found.lines, found.median_lines) == (pages - 1, lines, lines)
        assert found.pages_touched == pages


def test_lines_that_differ_from_visit_to_visit_grow_with_the_window() -> None:
    trace = np.array([access(0, at % 64, write=True) for at in range(640)], np.uint32)
    assert [written_within(trace, length).lines for length in (4, 16, 640)] == [4, 16, 64]


accesses = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 63), st.booleans()), min_size=1, max_size=60
)


@given(accesses)
def test_a_window_of_all_is_what_sets_say(parts: list[tuple[int, int, bool]]) -> None:
    trace = np.array([access(page, line, write=wrote) for page, line, wrote in parts], np.uint32)
    found = written_within(trace, len(parts))
    lines = {(page, line) for page, line, wrote in parts if wrote}
    pages = {page for page, _ in lines}
    assert found.pages == len(pages)
    assert found.lines * len(pages) == pytest.approx(len(lines))
    assert found.pages_touched == len({page for page, _, _ in parts})
    # Whatever the length, a window writes no more pages than all of the trace.
    for length in range(1, len(parts) + 1):
        assert written_within(trace, length).pages <= len(pages)
