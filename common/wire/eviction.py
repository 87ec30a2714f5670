"""Who has to go when too many are there: the oldest one of the network that has the most.

An address that sends many keeps out others of its own, and nobody from elsewhere.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")


def network_of(host: str) -> str:
    """Return the network of an address: of IPv6 the /64, of IPv4 the address itself.

    Whoever has many addresses is likely to have them in one such network.

    Args:
        host: Numeric, perhaps with a zone.

    Returns:
        The network or address; what is no address, as it is.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def fullest(networks: Iterable[str]) -> str:
    """Return the network that occurs most often; of several, the first.

    Args:
        networks: One for each who is there.

    Returns:
        One of them.

    Raises:
        IndexError: If there are none.
    """
    return Counter(networks).most_common(1)[0][0]


def first_to_go(
    everybody: Iterable[_T], network: Callable[[_T], str], known: Callable[[_T], bool]
) -> _T | None:
    """Return the first one from the network that has the most; who is `known` goes last.

    Args:
        everybody: In the order in which they came.
        network: Gives somebody's network.
        known: Says whether somebody has shown who it is.

    Returns:
        Who has to go; None: there is nobody.
    """
    here = list(everybody)
    if not here:
        return None
    most = fullest(map(network, here))
    return min((each for each in here if network(each) == most), key=known)
