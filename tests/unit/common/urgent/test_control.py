"""Control words: one memory, whichever way it is looked at; a cache line a writer."""

from __future__ import annotations

import pytest

from pageferry.common.urgent.control import control_dtype, new_record, word_of
from pageferry.dest_agent.postcopy.kernel.state import FAULT_CONTROL, FaultControl
from pageferry.source_agent.postcopy.kernel.state import SERVER_CONTROL, ServerControl


class _One:
    first: int
    second: int


class _Other:
    third: int


def test_the_record_and_its_words_are_the_same_memory() -> None:
    dtype = control_dtype(_One, _Other)
    control, words = new_record(dtype)
    control.third = -5
    assert words[word_of(dtype, "third")] == -5
    words[word_of(dtype, "second")] = 7
    assert control.second == 7


def test_each_writer_has_cache_lines_of_its_own() -> None:
    dtype = control_dtype(_One, _Other)
    assert [word_of(dtype, name) for name in ("first", "second", "third")] == [0, 1, 8]
    assert dtype.itemsize == 128
    control, words = new_record(dtype)
    assert words.ctypes.data % 128 == 0
    with pytest.raises(AttributeError):
        _ = control.fourth


def test_a_word_is_not_hidden_by_what_every_record_has() -> None:
    class Group:
        base: int

    with pytest.raises(TypeError, match="named base"):
        control_dtype(Group)


@pytest.mark.parametrize(
    ("dtype", "seen"), [(FAULT_CONTROL, FaultControl), (SERVER_CONTROL, ServerControl)]
)
def test_what_mypy_sees_is_the_record(dtype: object, seen: type) -> None:
    names = [name for base in seen.__bases__ for name in base.__annotations__]
    assert names == list(dtype.names)  # type: ignore[attr-defined]
