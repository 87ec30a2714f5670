"""Who has to go when too many are there: of the network that has the most, the oldest.

An address that sends many keeps out others of its own, and nobody from elsewhere.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")


def network_of(host: str) -> str:
    """An address as one who may have many has it: of IPv6 the /64, of IPv4 the address itself."""
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
    """The one that stands there most often; of several, the first. Raises `IndexError` for none."""
    return Counter(networks).most_common(1)[0][0]


def first_to_go(
    everybody: Iterable[_T], network: Callable[[_T], str], known: Callable[[_T], bool]
) -> _T | None:
    """Of those from the network that has the most, the first; one that is `known` as the last.

    everybody: in the order in which they came. None: there is nobody.
    """
    here = list(everybody)
    if not here:
        return None
    most = fullest(map(network, here))
    return min((each for each in here if network(each) == most), key=known)
