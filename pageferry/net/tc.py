"""The kernel's own shaping: a token bucket on a veth pair, and netem where the kernel has it."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from pageferry.common.errors import PageferryError, UsageError
from pageferry.net.enter import inside
from pageferry.net.namespaces import ADDRESS, DEVICE, ENDS, PREFIX_LENGTH, End, namespace
from pageferry.net.options import Shaper
from pageferry.net.schedule import Moment
from pageferry.net.shape import LARGEST_PACKET, MTU, Direction, Shape

if TYPE_CHECKING:
    from pyroute2 import IPRoute

NO_NETEM: Final = (
    "this kernel has no netem: delay, jitter, loss and reorder are a userspace link's doing"
)
_ROOT: Final = 0x10000  # 1:
_CHILD: Final = 0x100000  # 10:
_AT_ROOT: Final = 0xFFFFFFFF
_BLACKHOLE: Final = 0x20000
_BURST_S: Final = 0.002
_NETEM_PACKETS: Final = 100_000


@contextlib.contextmanager
def netlink() -> Iterator[IPRoute]:
    """Talk to the kernel about links, addresses and queues of the present namespace.

    Yields:
        What takes the requests.

    Raises:
        OSError: The kernel refuses one. pyroute2's own error for that is no `OSError`.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


def bucket(direction: Direction, shape: Shape) -> dict[str, Any]:
    """Make the arguments of tbf, which keeps a rate.

    The burst is two milliseconds' worth: timers are late by less.

    Args:
        direction: The direction; it must have a rate.
        shape: The link that it is a direction of; sizes the queue.

    Returns:
        Arguments for `IPRoute.tc`; rate in bytes/s, burst and limit in bytes.
    """
    burst = max(int(direction.rate * _BURST_S), 2 * (MTU + 14))
    return {
        "kind": "tbf",
        "rate": int(direction.rate),
        "burst": burst,
        "limit": max(shape.queue_bytes(direction) + burst, LARGEST_PACKET),
    }


def netem(direction: Direction) -> dict[str, Any]:
    """Make the arguments of netem, which delays, loses and reorders.

    Its limit holds what is under way.

    Args:
        direction: The direction; its rate is left to `bucket`.

    Returns:
        Arguments for `IPRoute.tc`; times in microseconds, shares in per cent.
    """
    arguments: dict[str, Any] = {
        "kind": "netem",
        "delay": round(direction.delay * 1e6),
        "jitter": round(direction.jitter * 1e6),
        "loss": direction.loss * 100,
        "limit": _NETEM_PACKETS,
    }
    if direction.reorder:
        arguments["prob_reorder"] = direction.reorder * 100
    return arguments


def qdiscs(direction: Direction, shape: Shape, *, outage: bool) -> list[dict[str, Any]]:
    """List the queueing disciplines of the sender's device; during an outage it is a blackhole.

    Args:
        direction: The direction that it sends in.
        shape: The link that it is a direction of.
        outage: Whether nothing gets through.

    Returns:
        Arguments for `IPRoute.tc`, the root first; empty where nothing is shaped.
    """
    if outage:
        return [{"kind": "blackhole", "handle": _BLACKHOLE}]
    out: list[dict[str, Any]] = []
    if not direction.only_rate:
        out.append({**netem(direction), "handle": _ROOT})
    if not math.isinf(direction.rate):
        place = {"handle": _CHILD, "parent": _ROOT | 1} if out else {"handle": _ROOT}
        out.append({**bucket(direction, shape), **place})
    return out


def choose_shaper(
    asked: Shaper, shape: Shape, moments: list[Moment], *, has_netem: bool
) -> tuple[Literal["tc", "tun"], str | None]:
    """Choose which of the two shapes a link.

    Args:
        asked: What the user asked for.
        shape: What the link is at first.
        moments: What it becomes later.
        has_netem: Whether this kernel has netem.

    Returns:
        The shaper, and what the user must know about the choice, or None.

    Raises:
        UsageError: `tc` is asked for, and this kernel can't do it.
    """
    shapes = [shape, *(moment.shape for moment in moments)]
    simple = all(each.forward.only_rate and each.back.only_rate for each in shapes)
    if asked == "tun":
        return "tun", None
    if simple or has_netem:
        return "tc", None
    if asked == "tc":
        raise UsageError("--shaper tc: this kernel has no netem, so only a rate and outages")
    return "tun", NO_NETEM


def kernel_has_netem(name: str) -> bool:
    """Try netem at the loopback device of a namespace, and remove it again.

    Args:
        name: Name of the network whose source namespace is used.

    Returns:
        Whether the kernel has it.

    Raises:
        OSError: The namespace can't be entered.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    def probe() -> bool:
        with IPRoute() as ip:
            index = ip.link_lookup(ifname="lo")[0]
            try:
                ip.tc("add", index=index, handle=_ROOT, **netem(Direction()))
            except NetlinkError:
                return False
            ip.tc("del", index=index, handle=_ROOT, kind="netem")
            return True

    return inside(namespace(name, "src"), probe)


def bring_up(device: str, end: End) -> None:
    """Set a device's address and bring it up, and loopback too, in the present namespace.

    Args:
        device: Name of the device.
        end: Which end of the network it is; chooses the address.

    Raises:
        OSError: The kernel refuses it.
    """
    with netlink() as ip:
        (index,) = ip.link_lookup(ifname=device)
        ip.addr("add", index=index, address=ADDRESS[end], prefixlen=PREFIX_LENGTH)
        ip.link("set", index=index, state="up", txqlen=10_000)
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")


class TcLink:
    """A veth pair between two namespaces, with queueing disciplines at both ends.

    It needs nobody to run it, and goes with its namespaces. Making it raises `PageferryError` where
    a namespace can't be entered, or where the kernel refuses something.

    Args:
        name: Name of the network, whose namespaces must be there.
        shape: What the link is at first.
    """

    def __init__(self, name: str, shape: Shape) -> None:
        self._name = name
        try:
            self._make_pair()
            self.apply(shape, outage=False)
        except OSError as error:
            raise PageferryError(f"can't make the link: {error}") from None

    def _make_pair(self) -> None:
        def make() -> None:
            with netlink() as ip, open(f"/run/netns/{namespace(self._name, 'dst')}") as other:
                peer = {"ifname": DEVICE, "net_ns_fd": other.fileno()}
                ip.link("add", ifname=DEVICE, kind="veth", peer=peer)

        inside(namespace(self._name, "src"), make)
        for end in ENDS:
            inside(namespace(self._name, end), partial(bring_up, DEVICE, end))

    def apply(self, shape: Shape, *, outage: bool) -> None:
        """Make the link this from now on. What waits in a queue that is replaced is lost.

        Args:
            shape: What both directions are.
            outage: Whether nothing gets through.

        Raises:
            OSError: A namespace can't be entered, or the kernel refuses it.
        """
        for end, direction in zip(ENDS, (shape.forward, shape.back), strict=True):
            wanted = qdiscs(direction, shape, outage=outage)
            inside(namespace(self._name, end), partial(_put, wanted))

    def counters(self) -> dict[str, dict[str, int]]:
        """Count nothing: the kernel's counters go with its queues.

        Returns:
            Nothing, an empty dict.
        """
        return {}

    def close(self) -> None:
        """Do nothing: the link goes with its namespaces."""


def _put(wanted: list[dict[str, Any]]) -> None:
    with netlink() as ip:
        (index,) = ip.link_lookup(ifname=DEVICE)
        present = [q for q in ip.get_qdiscs(index=index) if q["handle"]]
        kinds = [q.get_attr("TCA_KIND") for q in present]
        if kinds == [each["kind"] for each in wanted]:
            if kinds == ["blackhole"]:
                return
            commands = ["change"] * len(wanted)  # which keeps what waits in the queue
        else:
            commands = ["replace"] * len(wanted)
        if present and not wanted:
            ip.tc("del", index=index, parent=_AT_ROOT)
        for command, each in zip(commands, wanted, strict=False):
            ip.tc(command, index=index, **each)
