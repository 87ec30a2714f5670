"""Two clocks: the estimate is within its own error bound, whatever the delays were."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.clock import (
    ClockMap,
    ClockSample,
    best_sample,
    clock_identity,
    reads_on,
    same_identity,
)

ns = st.integers(0, 10**9)


@given(
    offset=st.integers(-(10**15), 10**15),
    delays=st.lists(st.tuples(ns, ns), min_size=1, max_size=8),
    later=st.lists(st.tuples(ns, ns), min_size=1, max_size=8),
)
def test_error_bound_holds(
    offset: int, delays: list[tuple[int, int]], later: list[tuple[int, int]]
) -> None:
    """Out and back times may differ as they like: the bound must still hold."""

    def samples(start: int, pairs: list[tuple[int, int]]) -> list[ClockSample]:
        return [ClockSample(start, start + out + offset, start + out + back) for out, back in pairs]

    clock = ClockMap(best_sample(samples(10**16, delays)), best_sample(samples(3 * 10**16, later)))
    true_local = 2 * 10**16
    assert abs(clock.to_local(true_local + offset) - true_local) <= clock.error_ns + 1


def test_drift_is_followed() -> None:
    before = ClockSample(1000, 1000 + 500, 1000)
    after = ClockSample(11000, 11000 + 700, 11000)
    clock = ClockMap(before, after)
    assert clock.to_local(6000 + 600) == 6000


def test_one_clock_needs_no_estimate() -> None:
    sample = ClockSample(0, 7, 10)
    clock = ClockMap(sample, sample, said_same=True)
    assert clock.to_local(5) == 5
    assert clock.error_ns == 0
    assert clock_identity() == clock_identity()


@given(
    offset=st.integers(-(10**15), 10**15),
    before=st.tuples(ns, ns),
    after=st.tuples(ns, ns),
    said=st.booleans(),
)
def test_what_is_said_of_a_clock_is_believed_only_where_the_samples_show_it(
    offset: int, before: tuple[int, int], after: tuple[int, int], said: bool
) -> None:
    """A clone says that it has our clock. Whatever it reads, the error bound holds."""

    def sample(start: int, out: int, back: int) -> ClockSample:
        return ClockSample(start, start + out + offset, start + out + back)

    clock = ClockMap(sample(10**16, *before), sample(3 * 10**16, *after), said_same=said)
    shown = min(before[0], after[0]) >= -offset and min(before[1], after[1]) >= offset
    assert clock.same == (said and shown)
    if not clock.same:
        true_local = 2 * 10**16
        assert abs(clock.to_local(true_local + offset) - true_local) <= clock.error_ns + 1


def test_clocks_an_hour_apart_are_two_whatever_they_are_called() -> None:
    hour = 3600 * 10**9
    before, after = ClockSample(0, hour + 10, 20), ClockSample(10**9, 10**9 + hour + 10, 10**9 + 20)
    clock = ClockMap(before, after, said_same=True)
    assert clock.to_local(hour + 5 * 10**8 + 10) == 5 * 10**8 + 10
    assert clock.error_ns == 10


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, NotADirectoryError])
def test_a_kernel_without_a_boot_id_has_no_identity(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(Path, "read_text", fail)
    assert clock_identity() == ""
    assert not same_identity(clock_identity(), clock_identity())
    assert not same_identity(None, None)
    assert same_identity("one", "one")


@pytest.mark.parametrize(
    ("later_ns", "ahead_ns", "same"),
    [
        (10**9, 0, True),
        (10**9, 10**8, True),
        (10**9, 3600 * 10**9, False),  # a clone, or another machine
        (10**9, -(10**12), False),  # booted anew: its clock began from nothing
        (86_400 * 10**9, 4 * 10**9, True),  # a day of drift
    ],
)
def test_another_boot_reads_another_time(later_ns: int, ahead_ns: int, same: bool) -> None:
    offset = 5 * 10**12
    known = ClockSample(10**13, 10**13 + offset, 10**13 + 100)
    t0 = 10**13 + later_ns
    assert reads_on(known, ClockSample(t0, t0 + offset + ahead_ns, t0 + 10**6)) == same
