"""Two clocks: the estimate is within its own error bound, whatever the delays were."""

from hypothesis import given
from hypothesis import strategies as st

from common.clock import ClockMap, Sample, best, clock_identity

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

    def samples(start: int, pairs: list[tuple[int, int]]) -> list[Sample]:
        return [Sample(start, start + out + offset, start + out + back) for out, back in pairs]

    clock = ClockMap(best(samples(10**16, delays)), best(samples(3 * 10**16, later)))
    true_local = 2 * 10**16
    assert abs(clock.to_local(true_local + offset) - true_local) <= clock.error_ns + 1


def test_drift_is_followed() -> None:
    before = Sample(1000, 1000 + 500, 1000)
    after = Sample(11000, 11000 + 700, 11000)
    clock = ClockMap(before, after)
    assert clock.to_local(6000 + 600) == 6000


def test_one_clock_needs_no_estimate() -> None:
    sample = Sample(0, 10**9, 10)
    clock = ClockMap(sample, sample, same=True)
    assert clock.to_local(5) == 5
    assert clock.error_ns == 0
    assert clock_identity() == clock_identity()
