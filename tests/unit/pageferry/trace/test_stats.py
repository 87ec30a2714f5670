"""What `pageferry trace info` counts, against counting one by one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.files.memory_trace import MemoryTrace, TraceMeta, open_trace, write_trace
from pageferry.trace.stats import HOTTEST, count_accesses


def make_trace(accesses: list[tuple[int, int, bool]], pages: int) -> MemoryTrace:
    """In memory. accesses: page, line, whether it is a write."""
    raw = [page << 7 | line << 1 | write for page, line, write in accesses]
    writes = sum(each[2] for each in accesses)
    meta = TraceMeta(
        accesses=len(raw),
        reads=len(raw) - writes,
        writes=writes,
        pages=pages,
        instructions=False,
        source="",
        digest="0" * 32,
    )
    items = np.array(raw, np.uint32)
    return MemoryTrace("a trace", meta, items, np.zeros(0, np.uint64))


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 63), st.booleans()), min_size=1, max_size=80
    )
)
def test_as_counted_one_by_one(accesses: list[tuple[int, int, bool]]) -> None:
    stats = count_accesses(make_trace(accesses, 10))
    assert stats is not None
    parts = min(10, len(accesses))
    assert len(stats.parts) == parts
    known: set[int] = set()
    for number, part in enumerate(stats.parts):
        here = accesses[len(accesses) * number // parts : len(accesses) * (number + 1) // parts]
        touched = {page for page, _, _ in here}
        assert part.accesses == len(here)
        assert part.writes == sum(write for _, _, write in here)
        assert part.pages == len(touched)
        assert part.pages_written == len({page for page, _, write in here if write})
        assert part.new_pages == len(touched - known)
        known |= touched
    assert stats.lines == len({each[:2] for each in accesses})
    assert stats.pages_written == len({page for page, _, write in accesses if write})
    counts = Counter(page for page, _, _ in accesses)
    hottest = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:HOTTEST]
    assert [(each.page, each.accesses) for each in stats.hottest if each.accesses] == hottest
    for each in stats.hottest:
        assert each.writes == sum(page == each.page and write for page, _, write in accesses)
        assert each.share == pytest.approx(each.accesses / len(accesses))


def test_a_page_that_is_not_there() -> None:
    assert count_accesses(make_trace([(0, 0, False), (2, 0, True)], 2)) is None


def test_a_file_is_counted_in_parts(tmp_path: Path) -> None:
    accesses = (np.arange(1001) % 7 << 7 | 1).astype(np.uint32)
    with (tmp_path / "t.npz").open("wb") as file:
        write_trace(file, [accesses], accesses=1001, instructions=False, source="")
    stats = count_accesses(open_trace(str(tmp_path / "t.npz")))
    assert stats is not None
    assert sum(part.accesses for part in stats.parts) == 1001
    assert stats.lines == stats.pages_written == 7
