"""Page numbers to extents and back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.wire.extents import batches, from_pages, to_pages

page_sets = st.lists(st.integers(0, 2**32 - 1), unique=True, max_size=200) | st.lists(
    st.integers(0, 60), unique=True
)


@given(page_sets)
def test_round_trip_in_runs_that_do_not_touch(numbers: list[int]) -> None:
    pages = np.array(sorted(numbers), np.int64)
    extents = from_pages(pages)
    assert to_pages(extents).tolist() == pages.tolist()
    ends = extents["first"].astype(np.int64) + extents["count"]
    assert (extents["first"][1:] > ends[:-1]).all()


@given(page_sets, st.integers(1, 40), st.integers(1, 10))
def test_batches_keep_to_their_limits(numbers: list[int], max_pages: int, most: int) -> None:
    pages = np.array(sorted(numbers), np.int64)
    cut = list(batches(pages, max_pages=max_pages, max_extents=most))
    assert all(len(extents) <= most and extents["count"].sum() <= max_pages for extents in cut)
    assert [page for extents in cut for page in to_pages(extents).tolist()] == pages.tolist()
