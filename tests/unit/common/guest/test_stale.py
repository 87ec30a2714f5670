"""Kernels over line masks, against NumPy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.guest.stale import COUNTS, count_stale, new_masks, take_missing, take_stale

pages = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([0, 0, 1, 2**63, 2**64 - 1]), min_size=n, max_size=n),
        st.lists(st.sampled_from([0, 0, 3, 2**64 - 1]), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n),
    )
)


@given(pages, st.sampled_from([0, 1, 2, 63, 64]))
def test_counts_each_page_once(
    drawn: tuple[list[int], list[int], list[bool]], most_lines: int
) -> None:
    stale, cached = (np.array(masks, np.uint64) for masks in drawn[:2])
    sent = np.array(drawn[2], np.bool_)
    expected = []
    for masks in (stale | cached, stale, cached):
        lines = np.bitwise_count(masks).astype(int)
        lined = (lines > 0) & (lines <= most_lines) & sent
        expected += [((lines > 0) & ~lined).sum(), lined.sum(), lines[lined].sum()]
    expected.append(np.bitwise_count(cached).sum())
    expected.append(np.bitwise_count(stale | cached).sum())
    by_bin, counts = np.full(-(-len(stale) // 3), 99), np.full(COUNTS, 99)
    dirty = (stale | cached) != 0
    count_stale(stale, cached, sent, most_lines, by_bin, 3, counts)
    assert counts.tolist() == [int(each) for each in expected]
    assert by_bin.tolist() == [int(dirty[i : i + 3].sum()) for i in range(0, len(stale), 3)]
    assert stale.tolist() == drawn[0]
    assert not cached.any()


@given(pages, st.sampled_from([0, 1, 2, 63, 64]))
def test_takes_stale_pages_in_order(
    drawn: tuple[list[int], list[int], list[bool]], most_lines: int
) -> None:
    masks, sent = np.array(drawn[0], np.uint64), np.array(drawn[2], np.bool_)
    stale = masks.copy()
    by_line = (np.bitwise_count(masks) <= most_lines) & (masks != 0) & sent
    whole, lined = (np.full(len(stale), -1, np.int64) for _ in range(2))
    of_lined = np.zeros(len(stale), np.uint64)
    n, m = take_stale(stale, sent, most_lines, whole, lined, of_lined)
    assert whole[:n].tolist() == np.flatnonzero((masks != 0) & ~by_line).tolist()
    assert lined[:m].tolist() == np.flatnonzero(by_line).tolist()
    assert of_lined[:m].tolist() == masks[by_line].tolist()
    assert not stale.any()


@given(pages)
def test_missing_is_what_is_stale_or_never_went(
    drawn: tuple[list[int], list[int], list[bool]],
) -> None:
    stale, sent = np.array(drawn[0], np.uint64), np.array(drawn[2], np.bool_)
    missing = (stale != 0) | ~sent
    again = int(np.count_nonzero(missing & sent))
    out = np.full((len(stale) + 7) // 8, 0xA5, np.uint8)
    assert take_missing(stale, sent, out) == again
    assert out.tobytes() == np.packbits(missing, bitorder="little").tobytes()
    assert sent.all()
    assert not stale.any()


def test_new_masks_are_zero() -> None:
    assert new_masks(7).tolist() == [0] * 7
