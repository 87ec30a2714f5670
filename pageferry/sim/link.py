"""The link: what a TCP connection carries over it.

`rate=RATE,delay=TIME,loss=SHARE,mss=SIZE,window=SIZE`. A connection carries the least of the link's
rate, one window a round trip, and what its congestion control makes of the loss:

    cubic   RFC 9438, sections 5.1 and 4.3: the larger of its own average window (equation 6)
            and of a Reno flow's, which it never falls below
    reno    Mathis, Semke, Mahdavi, Ott (1997): 1.22 / sqrt(loss) segments
    others  the loss is ignored: they do not take it for congestion (bbr), or are not known here

A connection begins slowly (RFC 5681, 3.1): with ten segments in flight (RFC 6928), and one more for
each that is acknowledged, until what is in flight fills a round trip at the rate. HyStart, which
ends this in Linux, does so at one to one and a half times as much, so that the pipe is full from
then on. Each window before that keeps the link busy for a part of its round trip only; the rest is
lost:

    sum of (RTT + mss / rate - w / rate) over windows w, while it is positive and w not the last

A sender that nothing paces below the link's rate then fills the queue before it, and whatever comes
later waits behind that.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

from pydantic import Field, ValidationError

from pageferry.common.command_line.field_spec import listed
from pageferry.common.command_line.options import Options
from pageferry.common.config.fields import Duration, Percentage, Rate, Size
from pageferry.common.config.model import explain
from pageferry.common.errors import UsageError
from pageferry.net.shape import QUEUE_S, RTT, halved, hint, parse_pairs

_BETA: Final = 0.7  # cubic's multiplicative decrease
_C: Final = 0.4  # its scaling constant, segments/s^3
_MATHIS: Final = 1.22  # sqrt(3/2)
_FIRST: Final = 10  # segments: RFC 6928, and Linux
# A Linux socket keeps 4 MiB at most (tcp_wmem) until they are acknowledged, and wakes a waiting
# sender when two thirds of that are left. Little is added then where unsent bytes are kept few, as
# ours are (TCP_NOTSENT_LOWAT).
_WINDOW: Final = 4 * 2**20 * 2 // 3
# The average share of what fits into pipe and queue: after a loss cubic comes back to it along a
# cubic curve (RFC 9438, 4.2), reno along a straight line from a half.
_FILLED: Final = {"cubic": 1 - (1 - _BETA) / 4, "reno": 0.75}
MODELLED: Final = (*_FILLED, "bbr")  # the link's loss takes nothing from bbr


class SimulatedLink(Options):
    """A simulated link.

    Attributes:
        rate: Bytes/s; infinite is unlimited.
        delay: Seconds, one way.
        loss: Share of the segments that are lost.
        mss: Bytes of a segment's payload.
        window: Most bytes that a connection may have in flight.
    """

    rate: Annotated[Rate, Field(ge=1000)] = math.inf
    delay: Annotated[Duration, Field(ge=0, le=60)] = 0.0
    loss: Annotated[Percentage, Field(ge=0, lt=1)] = 0.0
    mss: Annotated[Size, Field(ge=64, le=65536)] = 1448  # Ethernet, with TCP timestamps
    window: Annotated[Size, Field(ge=1024, le=2**40)] = _WINDOW

    @property
    def rtt_s(self) -> float:
        """Round trip, in seconds."""
        return 2 * self.delay

    @property
    def queue_s(self) -> float:
        """How long packets may wait for the rate at most: the default of a shaped link."""
        return max(QUEUE_S, self.rtt_s)

    def carried_s(self, size: float, sent: float, rate_Bps: float) -> float:
        """Compute how long bytes take, a slow start included.

        Args:
            size: How many bytes.
            sent: Bytes that the connection has carried before, in its life.
            rate_Bps: The rate at which it carries them otherwise.

        Returns:
            Seconds.
        """
        return size / rate_Bps + self.slow_start_s(size, sent, rate_Bps)

    def slow_start_s(self, size: float, sent: float, rate_Bps: float) -> float:
        """Compute how much longer bytes take than they would at the full rate.

        Args:
            size: How many bytes.
            sent: Bytes that the connection has carried before, in its life.
            rate_Bps: The full rate.

        Returns:
            Seconds.
        """
        cycle_s = self.rtt_s + self.mss / rate_Bps
        flying, left, lost_s = _FIRST * self.mss + sent, size, 0.0
        while flying < min(left, self.window) and (idle_s := cycle_s - flying / rate_Bps) > 0:
            lost_s += idle_s
            left -= flying
            flying *= 2
        return lost_s if self.rtt_s > 0 else 0.0

    def standing_s(self, congestion: str) -> float:
        """Compute how long a byte waits behind a connection that sends all that the link takes.

        Args:
            congestion: Congestion control of that connection.

        Returns:
            Seconds; 0 where it fills no queue, or its queue is not modelled.
        """
        if congestion not in _FILLED or self.carries(congestion) < self.rate:
            return 0.0
        most_s = self.rtt_s + self.queue_s
        flying_s = min(_FILLED[congestion] * most_s, self.window / self.rate)
        return max(flying_s - self.rtt_s, 0.0)

    def carries(self, congestion: str) -> float:
        """Compute what one connection carries.

        Args:
            congestion: Its congestion control.

        Returns:
            Bytes/s; infinite where nothing holds it up.
        """
        rtt = self.rtt_s
        if rtt == 0:
            return self.rate
        bounds = [self.rate, self.window / rtt]
        if self.loss > 0 and congestion in ("cubic", "reno"):
            segments = _MATHIS / math.sqrt(self.loss)
            if congestion == "cubic":
                factor = (_C * (3 + _BETA) / (4 * (1 - _BETA))) ** 0.25
                segments = max(segments, factor * (rtt / self.loss) ** 0.75)
            bounds.append(segments * self.mss / rtt)
        return min(bounds)


def parse_link(text: str) -> SimulatedLink:
    """Read `--link`: `rate=1gbit,delay=5ms,loss=0.1%`.

    Args:
        text: What the user wrote; empty is nothing but a wire.

    Returns:
        The link.

    Raises:
        UsageError: A key is unknown, or its value wrong.
    """
    values = parse_pairs(text, "--link") if text.strip() else {}
    try:
        values = halved(values)
    except UsageError as error:
        raise UsageError(f"--link: {error}") from None
    known = (*SimulatedLink.model_fields, RTT)
    for key in values:
        if key not in known:
            raise UsageError(
                f"--link: a simulated link has no {key!r}: expected {listed(known)}"
                f"{hint(key, known)}"
            )
    try:
        link = SimulatedLink.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"--link: {explain(error).removeprefix('--')}") from None
    if "rate" in values and math.isinf(link.rate):
        raise UsageError(
            f"--link: rate: {values['rate']!r} limits nothing: expected a rate of at least 1kB/s,"
            " as in 800mbit, or --max-bandwidth instead of a link's"
        )
    return link


def not_modelled(congestion: str) -> str | None:
    """Say what a simulation leaves out with a congestion control.

    Args:
        congestion: Its name.

    Returns:
        A line for the user; None where nothing is left out.
    """
    if congestion in MODELLED:
        return None
    return (
        f"--congestion {congestion}: a simulation knows {listed(MODELLED)}; loss and queues of the"
        " link are left out"
    )
