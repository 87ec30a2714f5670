"""The cache against a plain model: an ordered dict a set, and a dict for memory."""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageferry.common.guest import control as c
from pageferry.common.guest.cache import (
    access,
    collect_dirty,
    count_dirty,
    drain_slice,
    new_entries,
    stride,
)
from pageferry.common.guest.control import VcpuArrays, aligned, new_scratch, new_vcpu_control
from pageferry.common.guest.jit import kernel
from pageferry.common.guest.native import signed
from pageferry.common.guest.pace import FLAT_OUT

PAGES = 24
PARTS = PAGES * 64


@kernel
def touch(m: VcpuArrays, part: int, write: bool, word: int, value: int) -> int:
    """One access: what was in the word, or a negative number."""
    at = access(m, part, write)
    if at < 0:
        return at
    old = signed(m.arena[at + word])
    if write:
        m.arena[at + word] = np.uint64(value)
    return old


def machine(sets: int, ways: int, shift: int) -> VcpuArrays:
    words = np.arange(PAGES * 512, dtype=np.uint64)
    lines = sets * ways
    return VcpuArrays(
        ctl=new_vcpu_control(FLAT_OUT, -1, -1, -1),
        state=np.zeros(c.STATE_WORDS, np.uint64),
        params=np.zeros(c.PARAM_WORDS, np.int64),
        table=np.zeros(1, np.uint64),
        words=words,
        log=np.zeros(2 * PAGES, np.uint64),
        counts=np.zeros(2 * PAGES, np.uint64),
        entries=new_entries(sets, ways),
        masks=aligned(lines if shift else 0, np.uint64),
        arena=aligned(lines * (8 << shift), np.uint64) if ways else words,
        scratch=new_scratch(),
        ways=ways,
        stride=stride(ways),
        sets=sets,
        shift=shift,
    )


@dataclass
class Model:
    """A set is an ordered dict of line -> {part: {word: value}}, most recent last."""

    sets: int
    ways: int
    shift: int
    memory: list[int] = field(default_factory=lambda: list(range(PAGES * 512)))
    held: bool = False
    log: dict[int, int] = field(default_factory=dict)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ["hits", "misses", "write_backs", "spills", "drained"], 0
        )
    )

    def __post_init__(self) -> None:
        self.rows: list[OrderedDict[int, dict[int, int]]] = [
            OrderedDict() for _ in range(self.sets)
        ]
        self.dirty: dict[int, set[int]] = {}
        self.writes = [0] * PAGES
        self.written_back = [0] * PAGES

    def _write_back(self, line: int, row: OrderedDict[int, dict[int, int]]) -> None:
        for address, value in row[line].items():
            self.memory[address] = value
        for part in self.dirty.pop(line):
            self.written_back[part >> 6] += 1
            self.log[part >> 6] = self.log.get(part >> 6, 0) | 1 << (part & 63)

    def touch(self, part: int, write: bool, word: int, value: int) -> int:
        line = part >> self.shift
        row = self.rows[line % self.sets]
        if line in row:
            self.counts["hits"] += 1
            row.move_to_end(line)
        else:
            self.counts["misses"] += 1
            if len(row) == self.ways:
                self._evict(row)
            row[line] = {}
        address = part * 8 + word
        old = row[line].get(address, self.memory[address])
        if write:
            row[line][address] = value
            self.writes[part >> 6] += 1
            self.dirty.setdefault(line, set()).add(part)
        return old

    def _evict(self, row: OrderedDict[int, dict[int, int]]) -> None:
        victim = next(iter(row))
        if self.held:
            clean = [line for line in row if line not in self.dirty]
            if clean:
                victim = clean[0]
            else:
                self.counts["spills"] += 1
        if victim in self.dirty:
            self._write_back(victim, row)
            self.counts["write_backs"] += 1
        del row[victim]

    def drain(self) -> None:
        for row in self.rows:
            for line in list(row):
                if line in self.dirty:
                    self._write_back(line, row)
                    self.counts["drained"] += 1

    def dirty_masks(self) -> dict[int, int]:
        masks: dict[int, int] = {}
        for parts in self.dirty.values():
            for part in parts:
                masks[part >> 6] = masks.get(part >> 6, 0) | 1 << (part & 63)
        return masks


def as_dict(masks: Any) -> dict[int, int]:
    return {int(page): int(masks[page]) for page in np.flatnonzero(masks)}


def drain(m: VcpuArrays) -> None:
    m.ctl[c.DRAIN_CURSOR] = 0
    while not drain_slice(m, 0):
        pass


GEOMETRY = st.tuples(
    st.sampled_from([1, 2, 4, 128]),
    st.sampled_from([1, 2, 3, 7, 8, 9, 16, 17, 64]),
    st.integers(0, 6),
)
# Few lines, so that they meet again; some far away, so that they are driven out.
PART = st.one_of(st.integers(0, 7).map(lambda i: i * 64), st.integers(0, PARTS - 1))
STEP = st.tuples(st.just("touch"), PART, st.booleans(), st.integers(0, 7))
ORDER = st.one_of(st.just(("hold",)), st.just(("release",)), st.just(("drain",)))
HISTORY = st.lists(st.one_of(*[STEP] * 12, ORDER), min_size=1, max_size=250)


def play(model: Model, m: VcpuArrays, history: list[tuple[Any, ...]]) -> None:
    for number, step in enumerate(history, model.counts["hits"] + model.counts["misses"]):
        if step[0] == "touch":
            _, part, write, word = step
            args = (part, write, word, 10**9 + number)
            assert touch(m, *args) == model.touch(*args)
        elif step[0] == "drain":
            drain(m)
            model.drain()
        else:
            model.held = step[0] == "hold"
            m.ctl[c.HOLD] = int(model.held)


def compare(model: Model, m: VcpuArrays) -> None:
    """Counters, logs, dirty lines and memory, before and after a drain."""
    for _ in range(2):
        assert as_dict(m.log[:PAGES]) == model.log
        masks = np.zeros(PAGES, np.uint64)
        assert collect_dirty(m, masks) == count_dirty(m) == len(model.dirty)
        assert as_dict(masks) == model.dirty_masks()
        names = (c.HITS, c.MISSES, c.WRITE_BACKS, c.SPILLS, c.DRAINED_LINES)
        assert [int(m.ctl[name]) for name in names] == list(model.counts.values())
        assert m.words.tolist() == model.memory
        assert m.counts.tolist() == model.writes + model.written_back
        drain(m)
        model.drain()
    assert not model.dirty


@settings(max_examples=100)
@given(geometry=GEOMETRY, history=HISTORY)
def test_cache_is_the_model(geometry: tuple[int, int, int], history: list[tuple[Any, ...]]) -> None:
    model, m = Model(*geometry), machine(*geometry)
    play(model, m, history)
    compare(model, m)


@pytest.mark.parametrize("shift", [0, 1, 3, 6])
@pytest.mark.parametrize(("sets", "ways"), [(1, 2), (2, 3), (1, 7), (1, 8), (2, 9), (1, 17)])
def test_long_histories_end_as_the_model_does(sets: int, ways: int, shift: int) -> None:
    """Half as many lines again as the cache holds: hits, misses and spills all the time."""
    rng = random.Random(f"{sets} {ways} {shift}")  # noqa: S311
    lines = min(sets * ways * 3 // 2 + 1, PARTS >> shift)
    model, m = Model(sets, ways, shift), machine(sets, ways, shift)
    orders = [("hold",), ("release",), ("drain",)]
    for _ in range(20):
        history: list[tuple[Any, ...]] = [rng.choice(orders)]
        write_share = rng.choice([0.1, 0.5, 0.9])
        for _ in range(60):
            part = rng.randrange(lines << shift)
            history.append(("touch", part, rng.random() < write_share, rng.randrange(8)))
        play(model, m, history)
        compare(model, m)


@given(history=HISTORY)
@settings(max_examples=40)
def test_without_a_cache_every_write_is_logged_at_once(history: list[tuple[Any, ...]]) -> None:
    m = machine(0, 0, 0)
    memory = list(range(PAGES * 512))
    log: dict[int, int] = {}
    writes = [0] * PAGES
    for number, step in enumerate(history):
        if step[0] != "touch":
            continue
        _, part, write, word = step
        assert touch(m, part, write, word, 10**9 + number) == memory[part * 8 + word]
        if write:
            memory[part * 8 + word] = 10**9 + number
            log[part >> 6] = log.get(part >> 6, 0) | 1 << (part & 63)
            writes[part >> 6] += 1
    assert m.counts.tolist() == writes + writes
    assert m.words.tolist() == memory
    assert as_dict(m.log[:PAGES]) == log
    assert m.ctl[c.DIRTIED] == len(log)


@pytest.mark.parametrize("geometry", [(0, 0, 0), (4, 3, 0), (2, 9, 3)])
def test_a_missing_page_changes_nothing(geometry: tuple[int, int, int]) -> None:
    m = machine(*geometry)
    present = np.ones(PAGES, np.uint8)
    present[5] = 0
    m.ctl[c.PRESENCE] = present.ctypes.data
    for part in range(0, 4 * 64, 5):
        touch(m, part, True, 0, 7)
    before = [array.copy() for array in (m.words, m.log, m.entries, m.masks, m.arena, m.ctl)]
    assert touch(m, 5 * 64 + 3, True, 0, 1) == -1 - 5
    after = (m.words, m.log, m.entries, m.masks, m.arena, m.ctl)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    present[5] = 1
    assert touch(m, 5 * 64 + 3, True, 0, 1) == (5 * 64 + 3) * 8


def test_a_drain_in_slices_goes_on_where_it_was() -> None:
    m = machine(128, 2, 0)
    for part in range(256):
        touch(m, part, True, 0, part + 10**6)
    assert not drain_slice(m, 0)
    assert 0 < m.ctl[c.DRAIN_CURSOR] < 128
    again = 3  # its set is behind the cursor
    touch(m, again, True, 0, 5)
    while not drain_slice(m, 0):
        pass
    assert m.ctl[c.DRAINED_LINES] == 256
    masks = np.zeros(PAGES, np.uint64)
    assert collect_dirty(m, masks) == 1
    assert as_dict(masks) == {0: 1 << again}
