"""An uplink that is shared: exact where it can be worked out by hand, and bounds everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.sim.sharing import Span, Transfer, schedule_transfers

jobs = st.lists(st.builds(Transfer, st.floats(0, 100), st.floats(0, 1e9)), min_size=1, max_size=30)


def ends(spans: list[Span]) -> list[float]:
    return [span.end_s for span in spans]


class TestByHand:
    def test_one_after_the_other(self) -> None:
        spans = schedule_transfers(
            [Transfer(1, 100), Transfer(2, 50)], [1, 0], slots=1, rate_Bps=10, most_Bps=1e9
        )
        assert spans == [Span(7, 18), Span(0, 7)]

    def test_two_at_a_time_have_half_each(self) -> None:
        spans = schedule_transfers(
            [Transfer(0, 100), Transfer(0, 40)], [0, 1], slots=2, rate_Bps=10, most_Bps=1e9
        )
        assert ends(spans) == pytest.approx([14, 8])  # 40 each by 8 s, then 60 more alone

    def test_who_is_late_takes_its_share_from_then_on(self) -> None:
        spans = schedule_transfers(
            [Transfer(0, 100), Transfer(5, 20)], [0, 1], slots=2, rate_Bps=10, most_Bps=1e9
        )
        assert ends(spans) == pytest.approx([12, 9])

    def test_alone_it_gets_no_more_than_its_limit(self) -> None:
        assert ends(
            schedule_transfers([Transfer(0, 100)], [0], slots=1, rate_Bps=10, most_Bps=4)
        ) == [25]

    def test_a_transfer_of_nothing_takes_its_idle_time(self) -> None:
        assert schedule_transfers(
            [Transfer(0, 0), Transfer(1, 0)], [0, 1], slots=1, rate_Bps=1, most_Bps=1
        ) == [
            Span(0, 0),
            Span(0, 1),
        ]


@given(jobs, st.integers(1, 40), st.floats(1e3, 1e10), st.floats(1e3, 1e10), st.randoms())
def test_transfers_end_within_what_link_and_slots_allow(
    todo: list[Transfer], slots: int, rate: float, most: float, random: object
) -> None:
    order = list(range(len(todo)))
    random.shuffle(order)  # type: ignore[attr-defined]
    spans = schedule_transfers(todo, order, slots=slots, rate_Bps=rate, most_Bps=most)
    size = sum(job.bytes for job in todo)
    assert max(ends(spans)) >= size / rate * (1 - 1e-9)
    alone = sum(job.idle_s + job.bytes / min(rate / min(slots, len(todo)), most) for job in todo)
    assert max(ends(spans)) <= alone * (1 + 1e-6) + 1e-6
    for job, span in zip(todo, spans, strict=True):
        assert (
            span.end_s - span.start_s
            >= job.idle_s + job.bytes / min(rate, most) - 1e-6 * span.end_s
        )
    for at in (span.start_s for span in spans):
        assert sum(span.start_s <= at < span.end_s for span in spans) <= slots
    begun = [spans[number].start_s for number in order]
    assert begun == sorted(begun)
