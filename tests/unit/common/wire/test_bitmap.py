"""Sets of pages as they travel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.wire.bitmap import (
    MOST_SUMMARY,
    WORTH,
    count_pages,
    expand_summary,
    lengthen,
    pack,
    shorten,
    summary,
    unpack,
)
from pageferry.common.wire.packing import Codec, packer


@given(st.lists(st.booleans(), max_size=70))
def test_a_packed_set_unpacks_to_the_same_pages(pages: list[bool]) -> None:
    packed = pack(np.array(pages, np.bool_))
    assert unpack(packed, len(pages)).tolist() == pages
    assert count_pages(packed) == sum(pages)


@pytest.mark.parametrize(("data", "n_pages"), [(b"", 1), (b"\0\0", 8), (b"\xff", 7)])
def test_what_does_not_fit_the_guest(data: bytes, n_pages: int) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(data, n_pages)


@given(st.lists(st.booleans(), max_size=70))
def test_the_summary_of_a_small_guest_says_it_all(pages: list[bool]) -> None:
    assert expand_summary(summary(np.array(pages, np.bool_)), len(pages)).tolist() == pages


@given(st.integers(1, 200_000), st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_a_summary_is_short_and_has_few_pages_too_many(n: int, seed: int, share: float) -> None:
    pages = np.random.default_rng(seed).random(n) < share
    data = summary(pages)
    assert len(data) <= MOST_SUMMARY
    expanded = expand_summary(data, n)
    assert expanded.shape == (n,)
    assert np.count_nonzero(expanded & ~pages) <= n / 8
    if share == 1.0:
        assert expanded.all()
    if share == 0.0:
        assert not expanded.any()


def test_a_summary_of_another_guest() -> None:
    with pytest.raises(RemoteProtocolError):
        expand_summary(summary(np.ones(100_000, np.bool_)), 1_000_000)


@given(st.integers(1, 100_000), st.integers(0, 2**32), st.sampled_from([0.0, 0.01, 0.5, 1.0]))
def test_a_shortened_set_lengthens_to_the_same(n: int, seed: int, share: float) -> None:
    data = pack(np.random.default_rng(seed).random(n) < share)
    short = shorten(data)
    assert len(short) <= len(data)
    assert lengthen(short, n) == data


def test_a_set_of_all_pages_fits_into_a_first_window() -> None:
    """Of a terabyte's guest, and of the smallest that is worth it."""
    for n in (8 * WORTH, 2**27):
        assert len(shorten(b"\xff" * (n // 8))) < 10 * 1448


@pytest.mark.parametrize(
    "data",
    [
        bytes(100),
        shorten(bytes(2 * WORTH)),  # of a larger guest
        packer(Codec.ZSTD)(memoryview(bytes(16))),  # of a smaller one
        shorten(bytes(WORTH))[:-1],
    ],
)
def test_what_is_no_shorter_set_of_this_guest(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(lengthen(data, 8 * WORTH), 8 * WORTH)
