"""The kernel's own shaping: a token bucket on a veth pair, and netem where the kernel has it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Final, Literal

from pageferry.common.errors import PageferryError, UsageError
from pageferry.net.enter import inside
from pageferry.net.namespaces import ADDRESS, DEVICE, ENDS, PREFIX_LENGTH, End, namespace
from pageferry.net.options import Shaper
from pageferry.net.schedule import Moment
from pageferry.net.shape import LARGEST_PACKET, MTU, Direction, Shape

NO_NETEM: Final = (
    "this kernel has no netem: delay, jitter, loss and reorder are a userspace link's doing"
)
_ROOT: Final = 0x10000  # 1:
_CHILD: Final = 0x100000  # 10:
_AT_ROOT: Final = 0xFFFFFFFF
_BLACKHOLE: Final = 0x20000
_BURST_S: Final = 0.002
_NETEM_PACKETS: Final = 100_000


def bucket(direction: Direction, shape: Shape) -> dict[str, Any]:
    """tbf's arguments. The burst is two milliseconds' worth: timers are late by less."""
    burst = max(int(direction.rate * _BURST_S), 2 * (MTU + 14))
    return {
        "kind": "tbf",
        "rate": int(direction.rate),
        "burst": burst,
        "limit": max(shape.queue_bytes(direction) + burst, LARGEST_PACKET),
    }


def netem(direction: Direction) -> dict[str, Any]:
    """netem's arguments: microseconds, per cent. Its limit holds what is under way."""
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
    """What stands at the sender's device, root first; a blackhole during an outage."""
    if outage:
        return [{"kind": "blackhole", "handle": _BLACKHOLE}]
    out: list[dict[str, Any]] = []
    if not direction.only_rate:
        out.append({**netem(direction), "handle": _ROOT})
    if not math.isinf(direction.rate):
        place = {"handle": _CHILD, "parent": _ROOT | 1} if out else {"handle": _ROOT}
        out.append({**bucket(direction, shape), **place})
    return out


def choose(
    asked: Shaper, shape: Shape, moments: list[Moment], *, has_netem: bool
) -> tuple[Literal["tc", "tun"], str | None]:
    """Which of the two shapes this link, and what the user must know. Raises `UsageError`."""
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
    """Tried out at the loopback device of a namespace of the network `name`, and removed again."""
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
    """In the present namespace: address and state of `device` and of loopback."""
    from pyroute2 import IPRoute

    with IPRoute() as ip:
        (index,) = ip.link_lookup(ifname=device)
        ip.addr("add", index=index, address=ADDRESS[end], prefixlen=PREFIX_LENGTH)
        ip.link("set", index=index, state="up", txqlen=10_000)
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")


def refusals() -> tuple[type[Exception], ...]:
    """Give what a kernel's refusal of a link is raised as: pyroute2's own is no `OSError`."""
    from pyroute2.netlink.exceptions import NetlinkError

    return OSError, NetlinkError


class TcLink:
    """A veth pair between the two namespaces of `name`, with a queueing discipline at either end.

    It needs nobody to run it, and goes with its namespaces.
    """

    def __init__(self, name: str, shape: Shape) -> None:
        """Raises `PageferryError`."""
        self._name = name
        try:
            self._make_pair()
            self.apply(shape, outage=False)
        except refusals() as error:
            raise PageferryError(f"can't make the link: {error}") from None

    def _make_pair(self) -> None:
        from pyroute2 import IPRoute

        def make() -> None:
            with IPRoute() as ip, open(f"/run/netns/{namespace(self._name, 'dst')}") as other:
                peer = {"ifname": DEVICE, "net_ns_fd": other.fileno()}
                ip.link("add", ifname=DEVICE, kind="veth", peer=peer)

        inside(namespace(self._name, "src"), make)
        for end in ENDS:
            inside(namespace(self._name, end), partial(bring_up, DEVICE, end))

    def apply(self, shape: Shape, *, outage: bool) -> None:
        """From now on the link is this. What waits in a queue that is replaced is lost."""
        for end, direction in zip(ENDS, (shape.forward, shape.back), strict=True):
            wanted = qdiscs(direction, shape, outage=outage)
            inside(namespace(self._name, end), partial(_put, wanted))

    def counters(self) -> dict[str, dict[str, int]]:
        """Nothing: the kernel's counters go with its queues."""
        return {}

    def close(self) -> None:
        """Nothing: it goes with its namespaces."""


def _put(wanted: list[dict[str, Any]]) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as ip:
        (index,) = ip.link_lookup(ifname=DEVICE)
        present = [q for q in ip.get_qdiscs(index=index) if q["handle"]]
        kinds = [q.get_attr("TCA_KIND") for q in present]
        if kinds == [each["kind"] for each in wanted]:
            if kinds == ["blackhole"]:
                return
            commands = ["change"] * len(wanted)  # keeps what waits in the queue
        else:
            commands = ["replace"] * len(wanted)
        if present and not wanted:
            ip.tc("del", index=index, parent=_AT_ROOT)
        for command, each in zip(commands, wanted, strict=False):
            ip.tc(command, index=index, **each)
