"""How long faults took, as bars that are equally wide on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pageferry.common.report.hdr_histogram import HistogramError, read_histogram
from pageferry.common.report.page_bins import BARS_PER_DECADE
from pageferry.common.report.sections.postcopy import FaultCount, PostcopyReport


def bars_of(ns: NDArray[np.int64], counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Count latencies by bars: bar n begins at 10 ** (n / 12) ns.

    Args:
        ns: int64[n], latencies; what is below 1 counts as 1.
        counts: int64[n], how often each occurred.

    Returns:
        (Bar, count) of the bars that have any, in order.
    """
    places = np.floor(np.log10(np.maximum(ns, 1)) * BARS_PER_DECADE).astype(np.int64)
    bars, which = np.unique(places, return_inverse=True)
    sums = np.zeros(bars.size, np.int64)
    np.add.at(sums, which, counts)
    return list(zip(bars.tolist(), sums.tolist(), strict=True))


def fault_counts(bars: Iterable[tuple[int, int]]) -> list[FaultCount]:
    """Write bars as the report has them.

    Args:
        bars: (Bar, count) as `bars_of` returns them; empty bars left out.

    Returns:
        One for each bar, in the same order, with its edges in µs.
    """
    return [
        FaultCount(from_us=_edge_us(bar), to_us=_edge_us(bar + 1), faults=count)
        for bar, count in bars
    ]


def _edge_us(bar: int) -> float:
    """Return where a bar begins."""
    return float(10 ** (bar / BARS_PER_DECADE - 3))


def known_counts(part: PostcopyReport) -> list[FaultCount]:
    """Read the latencies of a report of any version.

    Args:
        part: The report's post-copy.

    Returns:
        Empty where there are none, or none that can be read.
    """
    if part.fault_counts or part.fault_histogram is None:
        return part.fault_counts
    try:
        return _read(part.fault_histogram)
    except HistogramError:
        return []


def damage(part: PostcopyReport) -> str | None:
    """Find out what is wrong with the latencies of an old report.

    Args:
        part: The report's post-copy.

    Returns:
        One line; None where they can be read, or there are none.
    """
    if part.fault_counts or part.fault_histogram is None:
        return None
    try:
        _read(part.fault_histogram)
    except HistogramError as error:
        return str(error)
    return None


def _read(text: str) -> list[FaultCount]:
    """Read an HDR histogram; raise `HistogramError` where it can't be read."""
    found = np.array(read_histogram(text), np.int64).reshape(-1, 2)
    return fault_counts(bars_of(found[:, 0], found[:, 1]))
