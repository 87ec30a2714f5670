"""Changed lines out of memory and into another one, against NumPy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pageferry.common.guest.lines import gather, scatter

N_PAGES = 6
WORDS = N_PAGES * 512
MASKS = st.one_of(st.integers(1, 2**64 - 1), st.sampled_from([1, 2**63, 2**64 - 1, 2**32]))
chosen = st.dictionaries(st.integers(0, N_PAGES - 1), MASKS)


def split(changed: dict[int, int]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    pages = np.array(sorted(changed), np.int64)
    return pages, np.array([changed[page] for page in pages], np.uint64)


def lines_of(changed: dict[int, int]) -> list[tuple[int, int]]:
    """(page, line) in the order in which they travel."""
    return [(p, bit) for p in sorted(changed) for bit in range(64) if changed[p] >> bit & 1]


@given(chosen)
def test_lines_are_gathered_in_order(changed: dict[int, int]) -> None:
    words = np.random.default_rng(1).integers(0, 2**64, WORDS, np.uint64)
    lines = lines_of(changed)
    out = np.zeros(8 * len(lines) + 8, np.uint64)
    assert gather(words, *split(changed), out) == len(lines)
    expected = [words.reshape(-1, 64, 8)[page, line] for page, line in lines]
    assert out[:-8].reshape(-1, 8).tolist() == [line.tolist() for line in expected]
    assert not out[-8:].any()


@given(chosen)
def test_only_those_lines_change(changed: dict[int, int]) -> None:
    rng = np.random.default_rng(2)
    ours, theirs = (rng.integers(0, 2**64, WORDS, np.uint64) for _ in range(2))
    expected = ours.copy().reshape(-1, 64, 8)
    lines = lines_of(changed)
    for page, line in lines:
        expected[page, line] = theirs.reshape(-1, 64, 8)[page, line]
    data = np.zeros(8 * len(lines), np.uint64)
    pages, masks = split(changed)
    gather(theirs, pages, masks, data)
    assert scatter(ours, pages, masks, data) == len(lines)
    assert (ours.reshape(-1, 64, 8) == expected).all()
