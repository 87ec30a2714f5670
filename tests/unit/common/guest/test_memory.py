from __future__ import annotations

import resource

import numpy as np
import pytest

from pageferry.common.errors import PageferryError
from pageferry.common.guest.memory import GuestMemory

MIB = 2**20


@pytest.fixture
def memory() -> GuestMemory:
    return GuestMemory(4 * MIB)


def test_fresh_memory_is_zero_and_all_views_are_one(memory: GuestMemory) -> None:
    assert not memory.words.any()
    assert memory.n_pages == 1024
    assert memory.pages.shape == (1024, 512)
    memory.view[8] = 3
    assert memory.words[1] == 3 == memory.pages[0, 1]
    assert memory.address == memory.words.ctypes.data
    memory.close()


def test_fill_is_seeded_and_incompressible() -> None:
    memories = [GuestMemory(4 * MIB) for _ in range(3)]
    for memory, seed in zip(memories, (1, 1, 2), strict=True):
        memory.fill(seed)
    first, same, other = (memory.words for memory in memories)
    np.testing.assert_array_equal(first, same)
    assert np.count_nonzero(first == other) == 0
    assert len(np.unique(first)) == len(first)
    counts = np.bincount(np.asarray(memories[0].view), minlength=256)
    assert counts.min() > 0.9 * counts.mean()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_zero_pages(memory: GuestMemory, share: float) -> None:
    memory.fill(7, share)
    zero = np.asarray(~memory.pages.any(axis=1))
    assert abs(zero.mean() - share) < (0.06 if 0 < share < 1 else 1e-9)
    pages = np.arange(1023, -1, -1)
    np.testing.assert_array_equal(memory.zero_pages(pages), zero[pages])
    memory.close()


@pytest.mark.parametrize("entropy", [0.0, 0.25, 1.0])
def test_a_share_of_each_page_is_random(memory: GuestMemory, entropy: float) -> None:
    memory.fill(7, 0.25, entropy)
    whole = GuestMemory(4 * MIB)
    whole.fill(7, 0.25)
    words = int(entropy * 512)
    pages, same = memory.pages, whole.pages[:, :words]
    np.testing.assert_array_equal(pages[:, :words], same)  # as many are zero, and the same ones
    full = whole.pages.any(axis=1)
    assert pages[full].all()
    assert not pages[~full].any()
    if words < 512:
        assert (pages[:, words:] == pages[:, words : words + 1]).all()
        assert len(np.unique(pages[full, words])) == full.sum()
    memory.close()
    whole.close()


def test_a_single_bit_anywhere_is_not_zero(memory: GuestMemory) -> None:
    for word in (0, 15, 16, 511):
        memory.pages[5, word] = 1 << 63
        assert memory.zero_pages(np.array([4, 5, 6])).tolist() == [True, False, True]
        memory.pages[5, word] = 0
    memory.close()


def test_close_with_views_outstanding_gives_the_memory_back() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()

    memory = GuestMemory(128 * MIB)
    memory.fill(1)
    held, view = memory.pages[3:], memory.view[100:200]
    full = resident()
    memory.close()
    memory.close()
    assert resident() < full - 100 * MIB
    assert not held.any()
    assert not any(view)


def test_too_much_memory_is_one_clear_line() -> None:
    with pytest.raises(PageferryError, match="no 16TiB of guest memory"):
        GuestMemory(2**44)
