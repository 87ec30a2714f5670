"""The network of one run: made before its agents, removed after them, described in its report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, Self

from pageferry.common.process.status import Status
from pageferry.common.report.binding_limit import binding_limit
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.network import DirectionReport, NetChange, NetReport
from pageferry.net import namespaces
from pageferry.net.enter import prefix
from pageferry.net.link import NetworkLink
from pageferry.net.options import NetOptions
from pageferry.net.shape import Direction, Shape
from pageferry.pair import LOOPBACK, Route

_CERTIFIED: Final = "localhost"  # what `pageferry certs` certifies where nobody names a host


class Network:
    """The network of a run while this is entered; loopback where the options ask for none.

    Making it raises `UsageError`; entering it, what entering a `NetworkLink` raises.

    Args:
        options: What is asked for; None is loopback.
        show: Called with each moment of the run, also while the network is made.
    """

    def __init__(self, options: NetOptions | None, show: Callable[[Status], None]) -> None:
        wanted = options.spec() if options is not None else None
        self._link = NetworkLink(wanted) if wanted is not None else None
        self._show = show

    def __enter__(self) -> Self:
        if self._link is not None:
            self._show(Status(phase="making and measuring the network"))
            self._link.__enter__()
            self._show(Status(phase="the network is up", notice=self._link.notice))
        return self

    def __exit__(self, *_: object) -> None:
        if self._link is not None:
            self._link.close()

    @property
    def route(self) -> Route:
        """Where the pair of agents runs; only while this is entered."""
        if self._link is None:
            return LOOPBACK
        if self._link.spec.kind == "relay":
            return Route(reach=self._link.point_at)
        name = self._link.spec.name
        return Route(
            dest_prefix=tuple(prefix(namespaces.namespace(name, "dst"))),
            source_prefix=tuple(prefix(namespaces.namespace(name, "src"))),
            listen=f"{namespaces.ADDRESS['dst']}:0",
            private=True,
            hostname=_CERTIFIED,
            reach=self._link.point_at,
        )

    def show(self, status: Status) -> None:
        """Pass on a moment of the migration; once that has begun, so has the link's schedule.

        Args:
            status: The moment; `elapsed_s` above 0 says that the migration has begun, and when.
        """
        if self._link is not None and status.elapsed_s > 0:
            self._link.start(time.monotonic_ns() - int(status.elapsed_s * 1e9))
        self._show(status)

    def tell(self, report: Report) -> None:
        """Put into a report what is known of the network, and whether it was the bottleneck.

        Args:
            report: The report; its `net` and `bound` are set.
        """
        report.net = self.report()
        report.bound = binding_limit(report)

    def report(self) -> NetReport | None:
        """Describe the network for a report; some of it is known only after this has been left.

        Returns:
            The report's section; None on loopback, or where the link was never measured.
        """
        link = self._link
        if link is None or link.measured is None:
            return None
        shape, measured = link.spec.shape, link.measured
        start_ns = link.start_ns or 0
        changes = [
            NetChange(
                at_ms=moment.at_s * 1e3,
                change=moment.words,
                applied_ms=(link.applied_ns[i] - start_ns) / 1e6 if i in link.applied_ns else None,
            )
            for i, moment in enumerate(link.spec.moments)
        ]
        return NetReport(
            link=link.spec.kind,
            shaper=link.shaper,
            forward=_direction(shape.forward, shape),
            back=_direction(shape.back, shape),
            **measured.model_dump(),
            schedule=changes,
            packets=link.counters or None,
            notes=[text for text in (link.notice, link.failure) if text],
        )


def _direction(direction: Direction, shape: Shape) -> DirectionReport:
    return DirectionReport(
        rate_Bps=None if math.isinf(direction.rate) else direction.rate,
        delay_ms=direction.delay * 1e3,
        jitter_ms=direction.jitter * 1e3,
        loss=direction.loss,
        reorder=direction.reorder,
        queue_bytes=shape.queue_bytes(direction),
    )
