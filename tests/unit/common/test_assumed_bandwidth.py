from __future__ import annotations

import math

import pytest

from pageferry.common.assumed_bandwidth import check_assumed, is_this_machine
from pageferry.common.config.transfer import TransferConfig
from pageferry.common.errors import UsageError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST."])
def test_an_address_of_this_machine_is_known(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "fe80::1%eth0", "localhost.example", "example", ""])
def test_an_address_elsewhere_is_not_this_machine(host: str) -> None:
    assert not is_this_machine(host)


def test_an_unlimited_way_to_elsewhere_is_not_guessed() -> None:
    config = TransferConfig(predict=True, max_bandwidth=math.inf)
    with pytest.raises(UsageError, match="--assume-bandwidth RATE"):
        check_assumed(config, "10.0.0.1")
    check_assumed(config, "127.0.0.1")
    check_assumed(TransferConfig(max_bandwidth=math.inf), "10.0.0.1")
    check_assumed(TransferConfig(predict=True), "10.0.0.1")
    known = {"predict": True, "max_bandwidth": math.inf, "assume_bandwidth": "1gbit"}
    check_assumed(TransferConfig.model_validate(known), "10.0.0.1")
