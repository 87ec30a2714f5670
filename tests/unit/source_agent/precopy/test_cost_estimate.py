"""What stale pages will cost where they travel shorter than they are."""

from __future__ import annotations

import pytest

from pageferry.source_agent.precopy.cost_estimate import SAMPLE_BYTES, TransferCost

MB = 1_000_000


def test_in_full_until_a_round_of_changed_pages_has_been_seen() -> None:
    transfer_cost = TransferCost()
    assert transfer_cost.wire_bytes(10 * MB) == 10 * MB
    assert transfer_cost.extra_encode_s(10 * MB, 100 * MB) == 0


def test_as_the_last_round_did() -> None:
    transfer_cost = TransferCost()
    transfer_cost.update(100 * MB, 25 * MB, 1.0, 0.1)
    assert transfer_cost.wire_bytes(8 * MB) == 2 * MB
    transfer_cost.update(100 * MB, 50 * MB, 1.0, 0.1)
    assert transfer_cost.wire_bytes(8 * MB) == 4 * MB


def test_a_small_round_says_nothing() -> None:
    transfer_cost = TransferCost()
    transfer_cost.update(100 * MB, 25 * MB, 1.0, 0.1)
    transfer_cost.update(SAMPLE_BYTES - 1, 1, 1.0, 0.1)
    assert transfer_cost.ratio == 0.25


def test_what_takes_longer_to_make_than_to_send() -> None:
    transfer_cost = TransferCost()
    transfer_cost.update(200 * MB, 1 * MB, 0.2, 0.08)
    # 0.7 ns a byte, half way between the two; 0.5 MB at 100 MB/s to send
    assert transfer_cost.extra_encode_s(100 * MB, 100 * MB) == pytest.approx(0.07 - 0.005)
    assert transfer_cost.extra_encode_s(100 * MB, 5 * MB) == 0  # the link is slower
    assert transfer_cost.extra_encode_s(100 * MB, float("inf")) == pytest.approx(0.07)


def test_several_processors_took_no_longer_than_the_round() -> None:
    transfer_cost = TransferCost()
    transfer_cost.update(200 * MB, 1 * MB, 0.05, 0.08)
    assert transfer_cost.extra_encode_s(200 * MB, float("inf")) == pytest.approx(0.05)
