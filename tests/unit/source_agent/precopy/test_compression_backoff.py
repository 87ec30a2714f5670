"""Compression turns itself off where it does not pay, and comes back where it does."""

from __future__ import annotations

import pytest

from pageferry.source_agent.precopy.compression_backoff import (
    FIRST_REST,
    LONGEST_REST,
    PATIENCE,
    CompressionBackoff,
    pays,
)


class Tried:
    """A backoff, and which batches of a row it let through."""

    def __init__(self) -> None:
        self.changes: list[bool] = []
        self.backoff = CompressionBackoff(self.changes.append)

    def row(self, batches: int, *, paid: bool) -> list[int]:
        out = []
        for batch in range(batches):
            if self.backoff.should_try():
                out.append(batch)
                self.backoff.record(paid)
        return out


@pytest.mark.parametrize(("packed", "expected"), [(0, True), (700, True), (701, False)])
def test_an_eighth_must_be_saved(packed: int, expected: bool) -> None:
    assert pays(800, packed) is expected


def test_what_pays_goes_on() -> None:
    tried = Tried()
    assert tried.row(100, paid=True) == list(range(100))
    assert tried.changes == []


def test_a_failure_now_and_then_changes_nothing() -> None:
    tried = Tried()
    for _ in range(20):
        assert len(tried.row(PATIENCE - 1, paid=False)) == PATIENCE - 1
        assert tried.row(1, paid=True) == [0]
    assert tried.changes == []


def test_rests_get_longer() -> None:
    tried = Tried()
    admitted = tried.row(2000, paid=False)
    assert admitted[:PATIENCE] == list(range(PATIENCE))
    gaps = [b - a - 1 for a, b in zip(admitted[PATIENCE - 1 :], admitted[PATIENCE:], strict=False)]
    assert gaps[:4] == [FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST, 8 * FIRST_REST]
    assert set(gaps[4:]) == {LONGEST_REST}
    assert tried.changes == [False]


def test_the_first_that_pays_turns_it_on_again() -> None:
    tried = Tried()
    tried.row(PATIENCE + FIRST_REST, paid=False)
    assert not tried.backoff.on
    assert tried.row(5, paid=True) == [0, 1, 2, 3, 4]
    assert tried.changes == [False, True]
    assert len(tried.row(PATIENCE + FIRST_REST, paid=False)) == PATIENCE  # patient as at first
    assert tried.changes == [False, True, False]


def test_while_one_is_tried_others_go_as_they_are() -> None:
    tried = Tried()
    tried.row(PATIENCE + FIRST_REST, paid=False)
    assert tried.backoff.should_try()
    assert not any(tried.backoff.should_try() for _ in range(FIRST_REST))
    tried.backoff.record(True)
    assert tried.backoff.should_try()


def test_what_was_on_its_way_when_it_was_turned_off_makes_a_rest_longer_at_most() -> None:
    tried = Tried()
    assert all(tried.backoff.should_try() for _ in range(PATIENCE + 2))
    for _ in range(PATIENCE + 2):
        tried.backoff.record(False)
    assert tried.changes == [False]
    assert not tried.backoff.should_try()
