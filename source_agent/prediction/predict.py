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
    LinkEstimate,
    Measurement,
    choose_strategy,
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
from pageferry.source_agent.prediction.loopback_probe import probe_loopback
from pageferry.source_agent.prediction.sampling import measure_guest

# From what whole migrations on loopback took beyond their bytes: a round's barrier and its answer,
# and what the event loop needs from a round's end to the start of the next one, or of the stop.
_ROUND_S: Final = 0.001
_DECIDE_S: Final = 0.0005
# How fast a burst leaves that a rate limit lets through: pages are gathered and summed, then sent.
_BURST_BPS: Final = 2e8
# MADV_DONTNEED of pages with content, in the downtime of a switch after rounds: 38 ms per GB.
_DISCARD_PAGE_S: Final = 150e-9
# Loopback carries less only where others take the processors, nobody can say for how long.
PROBED_ABOVE_BPS: Final = 2.5e8
_PAGE_BYTES: Final = PAGE_SIZE + EXTENT.itemsize
_FRAME_BYTES: Final = header.HEADER.size + EXTENT.itemsize
_LAZY_NOTE: Final = "ends with the guest's --run-after; moves at least the pages that it writes"


_Source = Literal["limit", "assumed", "loopback"]


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """The bandwidth that a prediction is made with.

    Attributes:
        rate_Bps: In bytes/s; infinity: no limit is known.
        source: Where it comes from.
        probed: What loopback carried while the guest ran, bytes/s; None: not measured.
    """

    rate_Bps: float
    source: _Source
    probed: float | None = None


def bandwidth(config: MigrationConfig, probed: float | None) -> Bandwidth:
    """Choose the least of the limit, what the user assumes, and what loopback carried.

    Args:
        config: Its `max_bandwidth` and `assume_bandwidth` are looked at.
        probed: What loopback carried, bytes/s; None: not measured.

    Returns:
        The least, and where it comes from.
    """
    rate = config.max_bandwidth
    source: _Source = "limit"
    if config.assume_bandwidth is not None and config.assume_bandwidth < rate:
        rate, source = config.assume_bandwidth, "assumed"
    if probed is not None and probed < rate:
        rate, source = probed, "loopback"
    return Bandwidth(rate, source, probed)


async def measure_and_predict(
    config: MigrationConfig,
    guest: Guest,
    *,
    booted: Progress | None,
    rtt_s: float,
    loopback: bool,
    blocking: Callable[..., Awaitable[Any]],
    pause: Callable[[float], Awaitable[None]],
) -> PredictionReport:
    """Look at a running guest, and predict from that what each strategy will cost.

    Args:
        config: Every option of the migration.
        guest: Runs; its dirty log is emptied.
        booted: What it had done when it began to run; None: it had not run.
        rtt_s: Round trip on the way to the destination.
        loopback: The destination is this machine, or nobody has said which: what loopback carries
            is measured, too, where that may be less than the limit.
        blocking: Runs a function, with its arguments, that blocks on the guest.
        pause: Waits so many seconds; raises what ends the measurement early.

    Returns:
        The prediction.

    Raises:
        PageferryError: Loopback failed, or whatever `pause` raises.
    """
    if config.dirty_tracker == "kernel":
        await blocking(guest.track_by_kernel)  # a guest that ran here before is not tracked yet
        await blocking(guest.harvest)  # the first harvest lists every page
    measured = await measure_guest(
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
            probe_loopback, guest.memory, StreamFormat.from_config(config), config.congestion
        )
    return prediction_report(config, measured, bandwidth(config, probed), rtt_s)


def link_of(config: MigrationConfig, rate_Bps: float, rtt_s: float) -> LinkEstimate:
    """Describe how this project's frames and rounds go over a link.

    Args:
        config: Its rate limit and checksums are looked at.
        rate_Bps: What the link carries, bytes/s.
        rtt_s: Its round trip.

    Returns:
        The link, as predictions want it.
    """
    burst = CREDIT_S * config.max_bandwidth if config.max_bandwidth < _BURST_BPS else 0.0
    trailer = header.TRAILER.size if config.checksum else 0
    return LinkEstimate(
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


def prediction_report(
    config: MigrationConfig, measured: Measurement, link: Bandwidth, rtt_s: float
) -> PredictionReport:
    """Compute what is expected from what was measured; pure.

    Args:
        config: Every option of the migration.
        measured: What the guest dirtied while it was looked at.
        link: The bandwidth to predict with.
        rtt_s: Round trip on the way to the destination.

    Returns:
        The prediction.
    """
    under = conditions(measured, link_of(config, link.rate_Bps, rtt_s))
    expected = forecasts(config, under)
    choice = choose_strategy(expected, config.downtime_limit)
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
        strategies=[_strategy(each) for each in expected],
        downtime_limit_ms=config.downtime_limit * 1e3,
        choice=choice.strategy,
        why=choice.why,
        not_predicted=_not_predicted(config),
    )


def _strategy(each: Forecast) -> StrategyPrediction:
    cost = each.cost
    return StrategyPrediction(
        strategy=each.strategy,
        total_time_ms=cost.total_s * 1e3,
        downtime_ms=cost.downtime_s * 1e3,
        bytes=cost.bytes,
        rounds=cost.rounds,
        path=cost.path,
        note=None if each.ends else _LAZY_NOTE,
        converges=not each.gave_up,
    )


def _not_predicted(config: MigrationConfig) -> list[str]:
    """List what the figures leave out, one option each."""
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


def prediction_check(
    prediction: PredictionReport,
    strategy: str,
    total_ms: float | None,
    downtime_ms: float | None,
    moved_bytes: int,
) -> PredictionCheck | None:
    """Compare a prediction with what the chosen strategy cost in the end.

    Args:
        prediction: As it was made before the migration.
        strategy: The strategy that was used; must be among those of the prediction.
        total_ms: What the migration took; None: it did not come to its end.
        downtime_ms: Its downtime; None: the guest did not move.
        moved_bytes: What its pages put on the wire.

    Returns:
        Errors as predicted / measured - 1, and in ms; None where the guest did not move.
    """
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
