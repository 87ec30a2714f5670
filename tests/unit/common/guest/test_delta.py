"""XBZRLE: against the way it is described, byte by byte; and what the cache of old pages does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pageferry.common.guest import delta
from pageferry.common.guest.delta import DELTA, EVERY_LINE, WHOLE, ZERO, DeltaBatch
from pageferry.common.units import PAGE_SIZE

N_PAGES = 8


def decoded(old: bytes, encoding: bytes) -> bytes | None:
    """What a decoder makes of it that follows the format's words; None: it is illegal."""
    out = bytearray(old)
    at = position = 0
    while at < len(encoding):
        same, at_changed = _count(encoding, at)
        if same is None or (same == 0 and at):
            return None
        changed, start = _count(encoding, at_changed)
        if not changed or start + changed > len(encoding):
            return None
        position += same
        if position + changed > PAGE_SIZE:
            return None
        out[position : position + changed] = encoding[start : start + changed]
        position += changed
        at = start + changed
    return bytes(out)


def _count(data: bytes, at: int) -> tuple[int | None, int]:
    low = data[at : at + 1]
    if not low:
        return None, at
    if low[0] < 128:
        return low[0], at + 1
    high = data[at + 1 : at + 2]
    if not high or high[0] >= 128:
        return None, at
    return low[0] - 128 + 128 * high[0], at + 2


class Pages:
    """Memory, a cache of old pages, and the destination that is told of both."""

    def __init__(self, slots: int = N_PAGES, seed: int = 5) -> None:
        rng = np.random.default_rng(seed)
        self.memory: NDArray[np.uint64] = rng.integers(1, 2**63, (N_PAGES, 512), np.int64).view(
            np.uint64
        )
        self.there = np.zeros((N_PAGES, 512), np.uint64)
        self.cache = delta.new_cache(slots * PAGE_SIZE, N_PAGES)
        self.likely = np.ones(N_PAGES, np.bool_)
        self.counters = np.zeros(delta.COUNTERS, np.int64)
        self.round = 0

    def send(
        self, pages: list[int], masks: list[int] | None = None, *, keep: bool = True
    ) -> list[int]:
        """A round of these pages, carried out at the destination; what became of each."""
        self.round += 1
        n = len(pages)
        asked = [int(EVERY_LINE)] * n if masks is None else masks
        words = np.zeros(n * 512, np.uint64)
        batch = DeltaBatch(
            np.array(pages, np.int64),
            np.array(asked, np.uint64),
            words,
            words.view(np.uint8),
            np.zeros(n, np.uint8),
            np.zeros(n, np.int64),
            np.zeros(n * PAGE_SIZE, np.uint8),
        )
        size = delta.encode_batch(
            self.memory.reshape(-1),
            self.cache,
            batch,
            self.round,
            self.likely,
            keep,
            self.counters,
        )
        assert size == batch.lengths.sum()
        self._arrive(batch, size)
        return [int(fate) for fate in batch.fates]

    def encoded(self, page: int) -> bytes:
        """What it would travel as."""
        words, out = np.zeros(512, np.uint64), np.zeros(PAGE_SIZE, np.uint8)
        fates, lengths = np.zeros(1, np.uint8), np.zeros(1, np.int64)
        one, mask = np.array([page]), np.array([EVERY_LINE])
        batch = DeltaBatch(one, mask, words, words.view(np.uint8), fates, lengths, out)
        memory, likely = self.memory.reshape(-1), self.likely
        size = delta.encode_batch(memory, self.cache, batch, 9, likely, False, self.counters)
        assert fates[0] == DELTA
        return out[:size].tobytes()

    def _arrive(self, batch: DeltaBatch, size: int) -> None:
        by_delta = batch.fates == DELTA
        there = self.there.view(np.uint8).reshape(-1)
        bad = delta.apply_deltas(
            there, batch.pages[by_delta], batch.lengths[by_delta], batch.out[:size]
        )
        assert bad == -1
        self.there[batch.pages[batch.fates == ZERO]] = 0
        word = 0
        for page, mask, fate in zip(*(a.tolist() for a in batch[:2]), batch.fates, strict=True):
            if fate == WHOLE:
                for line in (line for line in range(64) if mask >> line & 1):
                    self.there[page, 8 * line : 8 * line + 8] = batch.words[word : word + 8]
                    word += 8


page_bytes = st.lists(
    st.tuples(st.integers(0, PAGE_SIZE - 1), st.binary(min_size=1, max_size=40)), max_size=12
)


def changed_by(old: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    out = bytearray(old)
    for at, data in changes:
        out[at : at + len(data)] = data[: PAGE_SIZE - at]
    return bytes(out)


@given(changes=page_bytes, seed=st.integers(0, 3))
@example(changes=[], seed=0)
@example(changes=[(0, b"a" * 40), (4095, b"b")], seed=1)
def test_any_page_arrives_as_it_is(changes: list[tuple[int, bytes]], seed: int) -> None:
    pages = Pages(seed=seed)
    assert pages.send([3]) == [WHOLE]
    old = pages.memory[3].tobytes()
    new = changed_by(old, changes)
    pages.memory[3] = np.frombuffer(new, np.uint64)
    assert pages.send([3]) == [DELTA]
    assert pages.there[3].tobytes() == new
    pages.memory[3] = np.frombuffer(old, np.uint64)  # the cache knows what went last
    pages.send([3])
    assert pages.there[3].tobytes() == old


@given(changes=page_bytes)
def test_encodings_are_what_the_format_says(changes: list[tuple[int, bytes]]) -> None:
    pages = Pages()
    pages.send([0])
    old = pages.memory[0].tobytes()
    new = changed_by(old, changes)
    pages.memory[0] = np.frombuffer(new, np.uint64)
    encoding = pages.encoded(0)
    assert decoded(old, encoding) == new
    differ = sum(a != b for a, b in zip(old, new, strict=True))
    assert (
        differ <= len(encoding) <= 12 * 48 + 7 * differ
    )  # runs are trimmed: no whole words for a byte


@pytest.mark.parametrize(
    ("at", "encoding"),
    [
        ([], b""),
        ([0], b"\x00\x01!"),
        ([4095], b"\xff\x1f\x01!"),
        ([7, 10], b"\x07\x04!AA!"),  # two that stayed are cheaper to send than to count
        ([7, 11], b"\x07\x01!\x03\x01!"),
        ([63, 64], b"\x3f\x02!!"),  # two lines, one run
        ([200, 1000], b"\xc8\x01\x01!\x9f\x06\x01!"),
        ([8, 15], b"\x08\x08!AAAAAA!"),  # within a word nothing is counted
    ],
)
def test_one_changed_byte_has_qemus_encoding(at: list[int], encoding: bytes) -> None:
    pages = Pages()
    pages.memory[0] = np.frombuffer(b"A" * PAGE_SIZE, np.uint64)
    pages.send([0])
    pages.memory[0].view(np.uint8)[at] = ord("!")
    assert pages.encoded(0) == encoding


@given(data=st.binary(max_size=80))
@example(data=b"\xff\x1f\x01a")  # the last byte of the page
@example(data=b"\xff\x1f\x02ab")  # and one beyond
@example(data=b"\x80\x80\x01\x01a")
def test_a_decoder_takes_what_is_legal_and_nothing_else(data: bytes) -> None:
    old = bytes(range(256)) * 16
    around = bytearray(b"\x55" * PAGE_SIZE + old + b"\x55" * PAGE_SIZE)
    memory = np.frombuffer(around, np.uint8)
    bad = delta.apply_deltas(
        memory, np.array([1]), np.array([len(data)]), np.frombuffer(data, np.uint8)
    )
    expected = decoded(old, data)
    assert (bad == -1) == (expected is not None)
    middle = expected or old
    assert around == b"\x55" * PAGE_SIZE + middle + b"\x55" * PAGE_SIZE


def test_of_several_an_illegal_one_leaves_all_as_they_were() -> None:
    memory = np.zeros(2 * PAGE_SIZE, np.uint8)
    data = np.frombuffer(b"\x00\x01a" + b"\x00\x00", np.uint8)
    assert delta.apply_deltas(memory, np.array([0, 1]), np.array([3, 2]), data) == 1
    assert not memory.any()


actions = st.lists(
    st.tuples(
        st.sampled_from(["write", "zero", "whole", "lines"]),
        st.integers(0, N_PAGES - 1),
        st.integers(0, 511),
    ),
    max_size=40,
)


@given(actions=actions, slots=st.sampled_from([1, 3, N_PAGES]))
def test_any_history_arrives(actions: list[tuple[str, int, int]], slots: int) -> None:
    """Writes, then a round of all that was written, as the dirty log has it, and again."""
    pages = Pages(slots)
    pages.send(list(range(N_PAGES)))
    masks = np.zeros(N_PAGES, np.uint64)
    for action, page, word in [*actions, ("whole", 0, 0)]:
        if action == "write":
            pages.memory[page, word] += np.uint64(0x0101)
            masks[page] |= np.uint64(1 << word // 8)
        elif action == "zero":
            pages.memory[page] = 0
            masks[page] = EVERY_LINE
        else:
            stale = np.flatnonzero(masks).tolist()
            lines = [int(masks[each]) for each in stale]
            pages.send(stale, lines if action == "lines" else None)
            masks[:] = 0
            np.testing.assert_array_equal(pages.there, pages.memory)


def test_a_page_that_is_as_it_was_costs_nothing() -> None:
    pages = Pages()
    pages.send([1, 2])
    assert pages.send([1, 2]) == [DELTA, DELTA]
    assert pages.counters.tolist() == [2, 2, 0]


def test_a_page_that_changed_altogether_overflows_and_is_kept_as_it_is_now() -> None:
    pages = Pages()
    pages.send([1])
    pages.memory[1] ^= np.uint64(2**64 - 1)
    assert pages.send([1]) == [WHOLE]
    assert pages.counters[delta.OVERFLOWS] == 1
    assert pages.send([1]) == [DELTA]


def test_a_zero_page_is_a_mark_and_what_follows_a_delta() -> None:
    pages = Pages()
    pages.send([1])
    pages.memory[1] = 0
    assert pages.send([1]) == [ZERO]
    pages.memory[1, 7] = 9
    assert pages.send([1]) == [DELTA]
    np.testing.assert_array_equal(pages.there[1], pages.memory[1])


def test_lines_of_a_page_of_which_the_rest_is_not_known_are_not_kept() -> None:
    pages = Pages()
    pages.send([1], [1 << 5])
    pages.memory[1, 40] += np.uint64(1)
    assert pages.send([1], [1 << 5]) == [WHOLE]
    assert pages.counters[delta.HITS] == 0


class TestWhoMayStay:
    def test_who_was_of_use_lately(self) -> None:
        pages = Pages(slots=1)
        assert pages.send([1]) == [WHOLE]
        assert pages.send([2]) == [WHOLE]  # the slot is taken
        assert pages.send([1]) == [DELTA]
        pages.send([2])
        assert pages.send([2]) == [WHOLE]  # two rounds after the last use it is to be had
        assert pages.send([2]) == [DELTA]

    @pytest.mark.parametrize("first", [1, 2])
    def test_a_page_that_is_likely_to_go_again_comes_first(self, first: int) -> None:
        pages = Pages(slots=1)
        pages.likely[:] = False
        pages.likely[2] = True
        pages.send([first, 3 - first])
        assert pages.send([2]) == [DELTA]

    def test_nobody_is_taken_in_when_nothing_will_follow(self) -> None:
        pages = Pages()
        pages.send([1], keep=False)
        assert pages.send([1]) == [WHOLE]

    def test_the_cache_is_no_larger_than_the_guest(self) -> None:
        assert delta.new_cache(2**30, N_PAGES).words.nbytes == N_PAGES * PAGE_SIZE
        assert len(delta.new_cache(1, N_PAGES).pages) == 1
