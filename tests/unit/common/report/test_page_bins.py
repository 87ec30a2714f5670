"""Pages in bins, against plain loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.report.page_bins import MOST_BINS, Binning


@given(st.integers(1, 3000), st.data())
def test_every_page_is_in_one_bin(n_pages: int, data: st.DataObject) -> None:
    binning = Binning(n_pages)
    assert 1 <= binning.bins <= MOST_BINS
    assert (binning.bins - 1) * binning.per_bin < n_pages <= binning.bins * binning.per_bin
    pages = sorted(data.draw(st.sets(st.integers(0, n_pages - 1))))
    expected = binning.zeros()
    for page in pages:
        expected[page // binning.per_bin] += 1
    assert binning.count(np.array(pages, np.int64)).tolist() == expected.tolist()
    marks = np.zeros(n_pages, np.bool_)
    marks[pages] = True
    assert binning.add_up(marks).tolist() == expected.tolist()


def test_sums_are_wide_enough() -> None:
    binning = Binning(1000)
    assert binning.add_up(np.full(1000, 2**31, np.uint32)).sum() == 1000 * 2**31
