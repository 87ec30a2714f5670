"""Cells on workers that share a machine, and what it has free."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pageferry.sweeps.sharing import Sharing, WorkerRoom

HERE = WorkerRoom(place="a: this machine", free=100)


def shared(*workers: str) -> Sharing:
    sharing = Sharing()
    for each in workers:
        sharing.learn(each, HERE)
    return sharing


def test_what_does_not_fit_beside_another_waits() -> None:
    sharing = shared("w1", "w2")
    assert sharing.fits("w2", 40, [("w1", 60)])
    assert not sharing.fits("w2", 41, [("w1", 60)])
    sharing.learn("w3", WorkerRoom(place="b: this machine", free=100))
    assert sharing.fits("w3", 41, [("w1", 60)])


def test_alone_it_may_always_begin() -> None:
    """It is refused there, with the figure, and that is its result."""
    assert shared("w1").fits("w1", 1000, [])


def test_a_worker_that_comes_later_finds_less_free() -> None:
    """What is told by then has a part of the running cells in it, which would count twice."""
    sharing = shared("w1")
    sharing.learn("w2", HERE.model_copy(update={"free": 40}))
    assert sharing.fits("w2", 40, [("w1", 60)])


def test_nothing_is_known() -> None:
    assert Sharing().fits("w1", 1000, [("w2", 1000)])
    sharing = Sharing()
    sharing.learn("w1", WorkerRoom(place="a: ", free=None))
    assert sharing.fits("w1", 1000, [("w1", 1000)])


@given(st.lists(st.integers(1, 100), max_size=20))
def test_what_runs_side_by_side_fits(sizes: list[int]) -> None:
    workers = [f"w{number}" for number in range(20)]
    sharing = shared(*workers)
    running: list[tuple[str, int]] = []
    for each, size in zip(workers, sizes, strict=False):
        if sharing.fits(each, size, running):
            running.append((each, size))
    assert sum(size for _, size in running) <= 100
