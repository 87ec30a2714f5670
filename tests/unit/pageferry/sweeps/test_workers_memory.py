"""Cells on workers that share a machine, and what it has free."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pageferry.sweeps.workers_memory import WorkerRoom, WorkersMemory

HERE = WorkerRoom(place="a: this machine", free=100)


def known(*workers: str) -> WorkersMemory:
    memory = WorkersMemory()
    for each in workers:
        memory.learn(each, HERE)
    return memory


def test_what_does_not_fit_beside_another_waits() -> None:
    memory = known("w1", "w2")
    assert memory.fits("w2", 40, [("w1", 60)])
    assert not memory.fits("w2", 41, [("w1", 60)])
    memory.learn("w3", WorkerRoom(place="b: this machine", free=100))
    assert memory.fits("w3", 41, [("w1", 60)])


def test_alone_it_may_always_begin() -> None:
    """It is refused there, with the figure, and that is its result."""
    assert known("w1").fits("w1", 1000, [])


def test_a_worker_that_comes_later_finds_less_free() -> None:
    """What is told by then has a part of the running cells in it, which would count twice."""
    memory = known("w1")
    memory.learn("w2", HERE.model_copy(update={"free": 40}))
    assert memory.fits("w2", 40, [("w1", 60)])


def test_where_nothing_is_known_a_cell_may_begin() -> None:
    assert WorkersMemory().fits("w1", 1000, [("w2", 1000)])
    memory = WorkersMemory()
    memory.learn("w1", WorkerRoom(place="a: ", free=None))
    assert memory.fits("w1", 1000, [("w1", 1000)])


@given(st.lists(st.integers(1, 100), max_size=20))
def test_what_runs_side_by_side_fits(sizes: list[int]) -> None:
    workers = [f"w{number}" for number in range(20)]
    memory = known(*workers)
    running: list[tuple[str, int]] = []
    for each, size in zip(workers, sizes, strict=False):
        if memory.fits(each, size, running):
            running.append((each, size))
    assert sum(size for _, size in running) <= 100
