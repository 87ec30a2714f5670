"""Measure the guest, say what each strategy would cost it, and later how true that was."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from pageferry.common.config.model import MigrationConfig
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.progress import Progress
from pageferry.common.report.sections.prediction import (
    DirtyLook,
    PredictionCheck,
    PredictionReport,
    StrategyPrediction,
)
from pageferry.common.strategy.prediction import (
    Forecast,
    Link,
    Measurement,
    choose,
    conditions,
    forecasts,
)
from pageferry.common.units import PAGE_SIZE, format_time
from pageferry.common.wire import header
from pageferry.common.wire.extents import EXTENT
from pageferry.common.wire.pacing import CREDIT_S
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.precopy.batches import BATCH_PAGES
from pageferry.source_agent.precopy.rounds import SWITCHOVER_S
from pageferry.source_agent.prediction.loopback_probe import probe
from pageferry.source_agent.prediction.sampling import measure

# From what whole migrations on loopback took beyond their bytes: a round's barrier and its answer,
# and the event loop's way from a round's end to the next one's start, or to the stop.
_ROUND_S: Final = 0.001
_DECIDE_S: Final = 0.0005
# How fast what a rate limit lets go at once leaves: pages are gathered and summed, then sent.
_BURST_BPS: Final = 2e8
# MADV_DONTNEED of pages that have content, in the downtime of a switch after rounds: 38 ms a GB.
_DISCARD_PAGE_S: Final = 150e-9
# Loopback carries less only where others take the processors, and for how long nobody can say.
PROBED_ABOVE_BPS: Final = 2.5e8
_PAGE_BYTES: Final = PAGE_SIZE + EXTENT.itemsize
_FRAME_BYTES: Final = header.HEADER.size + EXTENT.itemsize
_LAZY_NOTE: Final = "ends with the guest's --run-after; moves at least the pages that it writes"


_Source = Literal["limit", "assumed", "loopback"]


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """What is reckoned with. probed: what loopback carried while the guest ran."""

    rate_Bps: float
    source: _Source
    probed: float | None = None


def bandwidth(config: MigrationConfig, probed: float | None) -> Bandwidth:
    """The least of the limit, what the user assumes, and what loopback was seen to carry."""
    rate = config.max_bandwidth
    source: _Source = "limit"
    if config.assume_bandwidth is not None and config.assume_bandwidth < rate:
        rate, source = config.assume_bandwidth, "assumed"
    if probed is not None and probed < rate:
        rate, source = probed, "loopback"
    return Bandwidth(rate, source, probed)


async def predict(
    config: MigrationConfig,
    guest: Guest,
    *,
    booted: Progress | None,
    rtt_s: float,
    loopback: bool,
    blocking: Callable[..., Awaitable[Any]],
    pause: Callable[[float], Awaitable[None]],
) -> PredictionReport:
    """Look at a running guest, and what follows from that.

    rtt_s: of the way to the destination. loopback: the destination is this machine, or nobody has
    said which: what loopback carries is measured, too, where that may be less than the limit. See
    `measure` for the others.
    """
    if config.dirty_tracker == "kernel":
        await blocking(guest.track_by_kernel)  # one that ran here before is not tracked
        await blocking(guest.harvest)  # the first one lists every page
    measured = await measure(
        guest,
        config.predict_time,
        by_line=config.travels_by_line,
        booted=booted,
        blocking=blocking,
        pause=pause,
    )
    probed: float | None = None
    if loopback and bandwidth(config, None).rate_Bps > PROBED_ABOVE_BPS:
        probed = await blocking(
            probe, guest.memory, StreamFormat.from_config(config), config.congestion
        )
    return report_of(config, measured, bandwidth(config, probed), rtt_s)


def link_of(config: MigrationConfig, rate_Bps: float, rtt_s: float) -> Link:
    """How this project's frames and rounds go over a link of that rate and round trip."""
    burst = CREDIT_S * config.max_bandwidth if config.max_bandwidth < _BURST_BPS else 0.0
    trailer = header.TRAILER.size if config.checksum else 0
    return Link(
        rate_Bps=rate_Bps,
        page_bytes=_PAGE_BYTES,
        frame_bytes=_FRAME_BYTES + trailer,
        frame_pages=BATCH_PAGES,
        burst_bytes=burst,
        burst_s=burst / _BURST_BPS,
        round_s=_ROUND_S + rtt_s,
        decide_s=_DECIDE_S,
        switchover_s=SWITCHOVER_S + rtt_s,
        discard_page_s=_DISCARD_PAGE_S,
    )


def report_of(
    config: MigrationConfig, measured: Measurement, link: Bandwidth, rtt_s: float
) -> PredictionReport:
    """Pure: what was measured, and what is expected of it."""
    under = conditions(measured, link_of(config, link.rate_Bps, rtt_s))
    expected = forecasts(config, under)
    choice = choose(expected, config.downtime_limit)
    return PredictionReport(
        measured_ms=measured.seconds * 1e3,
        dirty_rate=measured.dirty_rate,
        curve=[
            DirtyLook(t_ms=each.seconds * 1e3, pages=each.pages, lines=each.lines, bytes=each.bytes)
            for each in measured.looks
        ],
        zero_pages=measured.zero_pages,
        bandwidth=None if math.isinf(link.rate_Bps) else link.rate_Bps,  # JSON has no infinity
        bandwidth_from=link.source,
        probed=link.probed,
        steps_per_s_before=measured.steps_per_s_before,
        steps_per_s_while=measured.steps_per_s_while,
        strategies=[_strategy(each, config.downtime_limit) for each in expected],
        downtime_limit_ms=config.downtime_limit * 1e3,
        choice=choice.strategy,
        why=choice.why,
        not_predicted=_not_predicted(config),
    )


def _strategy(each: Forecast, limit_s: float) -> StrategyPrediction:
    cost = each.cost
    return StrategyPrediction(
        strategy=each.strategy,
        total_time_ms=cost.total_s * 1e3,
        downtime_ms=cost.downtime_s * 1e3,
        bytes=cost.bytes,
        rounds=cost.rounds,
        path=cost.path,
        note=None if each.ends else _LAZY_NOTE,
        converges=each.converges(limit_s),
    )


def _not_predicted(config: MigrationConfig) -> list[str]:
    """What the figures leave out, an option each."""
    out = []
    if config.dirty_limit is not None:
        out.append("--dirty-limit: the guest is reckoned with as fast as it was measured")
    if config.compress != "none":
        out.append(f"--compress {config.compress}: every page is reckoned with as it is")
    if config.delta != "none":
        out.append(f"--delta {config.delta}: every page is reckoned with as it is")
    if config.timeout is not None:
        out.append(f"--timeout {format_time(config.timeout)}: no round is cut short")
    if config.inject:
        out.append("--inject: nothing is expected to fail")
    return out


def check_of(
    prediction: PredictionReport,
    strategy: str,
    total_ms: float | None,
    downtime_ms: float | None,
    moved_bytes: int,
) -> PredictionCheck | None:
    """How true it was of the strategy that was taken; None where the guest did not move."""
    if not total_ms or not downtime_ms or total_ms <= 0 or downtime_ms <= 0:
        return None
    said = next(each for each in prediction.strategies if each.strategy == strategy)
    return PredictionCheck(
        strategy=strategy,
        total_time_error=said.total_time_ms / total_ms - 1,
        total_time_error_ms=said.total_time_ms - total_ms,
        downtime_error=said.downtime_ms / downtime_ms - 1,
        downtime_error_ms=said.downtime_ms - downtime_ms,
        bytes_error=said.bytes / max(moved_bytes, 1) - 1,
    )
