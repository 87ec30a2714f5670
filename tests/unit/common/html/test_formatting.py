"""Figures as text."""

from __future__ import annotations

import pytest

from pageferry.common.html.formatting import deviation, duration


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0.4211, "0.421 ms"),
        (2.3, "2.30 ms"),
        (99.99, "99.99 ms"),
        (99.999, "100 ms"),
        (348.2, "348 ms"),
        (999.6, "1.00 s"),
        (10_814, "10.8 s"),
        (192_000, "3 min 12 s"),
        (None, "–"),
    ],
)
def test_a_duration_has_the_unit_in_which_it_reads_well(ms: float | None, text: str) -> None:
    assert duration(ms) == text


def test_a_deviation_has_a_sign() -> None:
    assert [deviation(x) for x in (0.14, -0.004, None)] == ["+14 %", "−0.4 %", "–"]
