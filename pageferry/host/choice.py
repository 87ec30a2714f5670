"""Which of this user's hosts a command is for, if it does not say.

Several hosts on one machine have a control socket each. The host that is meant is the one with the
guest: the only one that has any, or the one that has the guest of that name. A host that listens at
the address where a guest is to be sent is not meant: nobody moves a guest to where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pageferry.common.errors import PageferryError, UsageError
from pageferry.host import messages as m
from pageferry.host.control_client import ControlClient, find_controls, no_host

ASKING_S = 5.0


@dataclass(frozen=True, slots=True)
class RunningHost:
    """A host, and what it says about itself.

    Attributes:
        control: Its control socket.
        listed: Its guests and where it listens, when it was asked.
    """

    control: Path
    listed: m.Listed

    def has(self, guest: str | None) -> bool:
        """Return whether the host has a guest.

        Args:
            guest: Its name; None for any guest.

        Returns:
            As of when the host was asked.
        """
        return any(guest in (None, each.name) for each in self.listed.guests)

    def listens_at(self, address: tuple[str, int]) -> bool:
        """Return whether whoever connects to an address gets to this host.

        Args:
            address: Host and port; names are looked up.

        Returns:
            True also for an address of this machine if the host listens on all of them.
        """
        host, port = address
        return port == self.listed.port and bool(
            _addresses(host) & (_addresses(self.listed.host) | {self.listed.host})
            or (_is_everything(self.listed.host) and _is_here(host))
        )


async def running_hosts(controls: Sequence[Path]) -> list[RunningHost]:
    """Ask hosts what they have; one that ends meanwhile, or does not answer, is left out.

    Args:
        controls: Their control sockets.

    Returns:
        Those that answered, in the same order.
    """
    found = []
    for control in controls:
        with contextlib.suppress(PageferryError, TimeoutError):
            listed = await asyncio.wait_for(ControlClient(control).ask(m.List()), ASKING_S)
            found.append(RunningHost(control, listed))
    return found


def choose_host(
    control: Path | None, guest: str | None = None, *, to: tuple[str, int] | None = None
) -> Path:
    """Find the host that a command is for.

    Args:
        control: What the user gave, which is taken as it is; None to look for it.
        guest: Name of the guest that it must have; None for any guest.
        to: Where its guest is to be sent, host and port; None for other commands.

    Returns:
        The host's control socket.

    Raises:
        UsageError: No host runs, none has the guest, or several do; those are listed.
    """
    if control is not None:
        return control
    controls = find_controls()
    if len(controls) == 1:
        return controls[0]
    running = asyncio.run(running_hosts(controls))
    if not running:
        raise no_host()
    able = [each for each in running if each.has(guest)]
    elsewhere = [each for each in able if to is None or not each.listens_at(to)]
    if len(elsewhere) == 1:
        return elsewhere[0].control
    if not elsewhere and len(able) == 1:
        return able[0].control  # it will say itself that the guest is there already
    what = "a guest" if guest is None else f"a guest {guest}"
    if not able:
        raise UsageError(f"none of {len(running)} hosts here has {what}: see 'pageferry host list'")
    names = ", ".join(str(each.control) for each in elsewhere or able)
    raise UsageError(
        f"which host? {len(elsewhere or able)} have {what}: expected --host with one of {names}"
    )


def _addresses(host: str) -> set[str]:
    """Return a host's addresses, as a connection would try them."""
    try:
        found = socket.getaddrinfo(host.partition("%")[0], None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {str(each[4][0]) for each in found}


def _is_everything(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return False


def _is_here(host: str) -> bool:
    """Return whether it is an address of this machine: one that can be bound."""
    for address in _addresses(host):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
            return True
    return False
