"""Options of a link, shared by the commands that make one. Light: every command imports this."""

from __future__ import annotations

import math
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import BeforeValidator, Field

from pageferry.common.command_line.options import Options
from pageferry.common.errors import UsageError

if TYPE_CHECKING:
    from pageferry.net.schedule import Moment
    from pageferry.net.shape import Shape
    from pageferry.net.spec import LinkSpec

Shaper = Literal["auto", "tc", "tun"]
Offloads = Literal["auto", "on", "off"]
LinkKind = Literal["namespaces", "relay"]


def _no_rate(value: Any) -> Any:
    """Refuse (`ValueError`) what describes a link of `simulate`: that is another option here."""
    if isinstance(value, str) and ("=" in value or value[:1].isdigit()):
        net = value if "=" in value else f"rate={value}"
        raise ValueError(
            f"{value!r} is no kind of link: expected namespaces or relay, and what it carries in"
            f" --net {net}"
        )
    return value


class LinkOptions(Options):
    """How a link is made, and what happens to it."""

    shaper: Annotated[
        Shaper,
        Field(
            description="tc: the kernel's queues; tun: a userspace link; auto: tc where it will do"
        ),
    ] = "auto"
    offloads: Annotated[
        Offloads,
        Field(
            description="the userspace link takes packets in pieces of up to 64 KiB; auto: unless"
            " packets are lost or overtake, or the rate is below 500mbit"
        ),
    ] = "auto"
    schedule: Annotated[
        tuple[str, ...],
        Parameter(negative_iterable="", show_default=False),
        Field(description="what changes: 'at 3s rate=10mbit; at 5s outage=2s'"),
    ] = ()


@dataclass(frozen=True, slots=True)
class RequestedNetwork:
    """A network as the options describe it.

    Attributes:
        kind: Two namespaces, or a relay.
        shape: What the link is at first.
        moments: What it becomes, and when.
    """

    kind: LinkKind
    shape: Shape
    moments: list[Moment]


class NetOptions(LinkOptions):
    """The network that a migration's agents are put into. The default is loopback as it is."""

    net: Annotated[
        str | None,
        Parameter(show_default=False),
        Field(
            description="a link of its own, as in rate=800mbit,delay=5ms,jitter=1ms,loss=0.1%,"
            "reorder=1%,queue=50ms; rate-back=... where the way back differs"
        ),
    ] = None
    link: Annotated[
        LinkKind | None,
        BeforeValidator(_no_rate),
        Parameter(show_default=False),
        Field(
            description="namespaces: two of them, which takes root; relay: of connections, without"
            " loss and reorder; with --net the default is namespaces"
        ),
    ] = None

    def asked(self) -> RequestedNetwork | None:
        """Work out which network is asked for, wherever it is to be made.

        Returns:
            The network; None where none is asked for.

        Raises:
            UsageError: The options contradict one another, or one has a wrong value.
        """
        if self.net is None and self.link is None:
            for name, field in LinkOptions.model_fields.items():
                if getattr(self, name) != field.default:
                    raise UsageError(f"--{name} means nothing without --net or --link")
            return None
        from pageferry.net.flow import refuse_packets
        from pageferry.net.schedule import parse_schedule, schedule_moments
        from pageferry.net.shape import Shape, parse_shape

        shape = Shape() if self.net is None else parse_shape(self.net)
        moments = schedule_moments(shape, parse_schedule(self.schedule))
        kind = self.link or "namespaces"
        if kind == "relay":
            if self.shaper != "auto" or self.offloads != "auto":
                raise UsageError("--shaper and --offloads are for --link namespaces")
            refuse_packets(shape, moments)
        return RequestedNetwork(kind, shape, moments)

    @property
    def rate(self) -> float:
        """Rate from source to destination, bytes/s; infinite without one. Raises `UsageError`."""
        asked = self.asked()
        return math.inf if asked is None else asked.shape.forward.rate

    def spec(self) -> LinkSpec | None:
        """Specify the network that is asked for, under a name of its own, to be made here.

        Returns:
            What its keeper is to make; None where no network is asked for.

        Raises:
            UsageError: The options are wrong, or root or a library is missing.
        """
        asked = self.asked()
        if asked is None:
            return None
        from pageferry.net import namespaces
        from pageferry.net.spec import LinkSpec

        if asked.kind == "namespaces":
            namespaces.require_namespaces("--net")
        return LinkSpec(
            kind=asked.kind,
            name=f"run-{os.getpid()}-{secrets.token_hex(3)}",
            shape=asked.shape,
            moments=asked.moments,
            shaper=self.shaper,
            offloads=self.offloads,
        )
