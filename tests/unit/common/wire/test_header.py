"""A frame's header as a struct and as words: the same 16 bytes."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.wire import header
from pageferry.common.wire.extents import EXTENT

u8, u16, u32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))


@given(u8, u8, u16, u32, st.integers(0, 2**64 - 1))
def test_words_and_struct_agree(
    kind: int, flags: int, entries: int, value: int, length: int
) -> None:
    data = header.HEADER.pack(kind, flags, entries, value, length)
    word = header.first_word(kind, flags, entries, value)
    assert struct.pack("<QQ", word, length) == data
    assert header.unpack_header(data) == (kind, flags, entries, value, length)
    assert header.kind_of(word) == kind
    assert header.flags_of(word) == flags
    assert header.entries_of(word) == entries
    assert header.value_of(word) == value


@given(u32, u32)
def test_an_extent_is_one_word_of_a_table(first: int, count: int) -> None:
    word = header.extent_word(first, count)
    assert struct.pack("<Q", word) == np.array([(first, count)], EXTENT).tobytes()
    assert (header.first_of(word), header.count_of(word)) == (first, count)
