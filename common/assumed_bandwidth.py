"""The bandwidth that a prediction assumes before any byte has gone to the destination."""

from __future__ import annotations

import ipaddress
import math

from pageferry.common.config.transfer import TransferConfig
from pageferry.common.errors import UsageError


def is_this_machine(host: str) -> bool:
    """Tell whether an address or host name is this machine's own.

    Args:
        host: An IP address, with or without a `%zone`, or a name. Names are not resolved: only
            `localhost` counts.

    Returns:
        Whether it is a loopback address, or `localhost`.
    """
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def check_assumed(config: TransferConfig, host: str) -> None:
    """Refuse a prediction that would have to guess the bandwidth of the way to `host`.

    Args:
        config: As asked for; only `predict`, `max_bandwidth` and `assume_bandwidth` are looked at.
        host: The destination, without its port. Loopback is never refused: it is probed.

    Raises:
        UsageError: A prediction is asked for, and neither a limit nor an assumption is given.
    """
    if (
        config.predict
        and math.isinf(config.max_bandwidth)
        and config.assume_bandwidth is None
        and not is_this_machine(host)
    ):
        raise UsageError(
            "--predict with --max-bandwidth unlimited does not know what the way to"
            f" {host} carries: say it with --assume-bandwidth RATE"
        )
