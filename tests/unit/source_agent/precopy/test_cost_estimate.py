"""What stale pages will cost where they travel shorter than they are."""

from __future__ import annotations

import pytest

from pageferry.source_agent.precopy.cost_estimate import SAMPLE_BYTES, Outlook

MB = 1_000_000


def test_in_full_until_a_round_of_changed_pages_has_been_seen() -> None:
    outlook = Outlook()
    assert outlook.scaled(10 * MB) == 10 * MB
    assert outlook.beyond_s(10 * MB, 100 * MB) == 0


def test_as_the_last_round_did() -> None:
    outlook = Outlook()
    outlook.told(100 * MB, 25 * MB, 1.0, 0.1)
    assert outlook.scaled(8 * MB) == 2 * MB
    outlook.told(100 * MB, 50 * MB, 1.0, 0.1)
    assert outlook.scaled(8 * MB) == 4 * MB


def test_a_small_round_says_nothing() -> None:
    outlook = Outlook()
    outlook.told(100 * MB, 25 * MB, 1.0, 0.1)
    outlook.told(SAMPLE_BYTES - 1, 1, 1.0, 0.1)
    assert outlook.ratio == 0.25


def test_what_takes_longer_to_make_than_to_send() -> None:
    outlook = Outlook()
    outlook.told(200 * MB, 1 * MB, 0.2, 0.08)
    # 0.7 ns a byte, half way between the two; 0.5 MB at 100 MB/s to send
    assert outlook.beyond_s(100 * MB, 100 * MB) == pytest.approx(0.07 - 0.005)
    assert outlook.beyond_s(100 * MB, 5 * MB) == 0  # the link is slower
    assert outlook.beyond_s(100 * MB, float("inf")) == pytest.approx(0.07)


def test_several_processors_took_no_longer_than_the_round() -> None:
    outlook = Outlook()
    outlook.told(200 * MB, 1 * MB, 0.05, 0.08)
    assert outlook.beyond_s(200 * MB, float("inf")) == pytest.approx(0.05)
