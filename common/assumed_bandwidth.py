"""Which bandwidth a prediction reckons with, before any byte has gone to the destination."""

from __future__ import annotations

import ipaddress
import math

from pageferry.common.config.transfer import TransferConfig
from pageferry.common.errors import UsageError


def is_loopback(host: str) -> bool:
    """Whether this address, or name, is this machine's own."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def check_assumed(config: TransferConfig, host: str) -> None:
    """Raise `UsageError` where a prediction would have to guess what the way to `host` carries."""
    if (
        config.predict
        and math.isinf(config.max_bandwidth)
        and config.assume_bandwidth is None
        and not is_loopback(host)
    ):
        raise UsageError(
            "--predict with --max-bandwidth unlimited does not know what the way to"
            f" {host} carries: say it with --assume-bandwidth RATE"
        )
