"""Page numbers to extents and back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.wire.extents import cut_pages, from_pages, to_pages

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


@given(page_sets, st.integers(1, 10))
def test_pieces_keep_to_their_limit_and_are_all_of_it(numbers: list[int], most: int) -> None:
    pages = np.array(sorted(numbers), np.int64)
    cut = list(cut_pages(pages, most))
    assert all(0 < len(extents) <= most for _, extents in cut)
    assert all(to_pages(extents).tolist() == piece.tolist() for piece, extents in cut)
    assert [page for piece, _ in cut for page in piece.tolist()] == pages.tolist()
