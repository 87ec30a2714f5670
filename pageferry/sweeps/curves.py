"""Downtime against dirty rate over bandwidth: a curve for each competitor and bandwidth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pageferry.runs.rows import Spread
from pageferry.sweeps.columns import Scalar, net_column
from pageferry.sweeps.query import COMPETITORS, GOOD, Query, label, quoted, spread_of


@dataclass(frozen=True, slots=True)
class DowntimeCurve:
    """The downtime of one competitor at one bandwidth.

    Attributes:
        name: The competitor.
        bandwidth_Bps: What the link carries: the lower one of the limit and the link's rate.
        points: Dirty rate / bandwidth, and downtime in ms; in ascending order of the former.
    """

    name: str
    bandwidth_Bps: float
    points: tuple[tuple[float, Spread], ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves that share the rest of the options that vary.

    Attributes:
        title: Those options, with their values.
        curves: In the order of the results.
    """

    title: str
    curves: tuple[DowntimeCurve, ...]


def _along(varied: Sequence[str]) -> list[str]:
    """List the axes along which curves run, or whose values have a curve each.

    Where both the limit and the link's rate vary, each limit has a picture, with a curve per link.
    """
    link = ["net.rate"] if "net.rate" in varied else ["max-bandwidth"]
    return [axis for axis in varied if axis in ("workload.rate", *link)]


def curves(query: Query) -> list[Curves]:
    """Compute downtime against dirty rate over bandwidth.

    The dirty rate is the one that the workload was asked for or, where it takes none, what the
    first round has measured. The bandwidth is the limit, or the rate of a shaped link where that is
    lower.

    Args:
        query: The results. Rows without a dirty rate, or without a limited bandwidth, are left out.

    Returns:
        One picture for each combination of the axes that are not in it.
    """
    inner = _along(query.varied())
    rest = [a for a in query.varied() if a not in (COMPETITORS, *inner)]
    names = [quoted(query.column(axis)) for axis in rest]
    rate = "CASE WHEN isinf(workload_rate_Bps) THEN NULL ELSE workload_rate_Bps END"
    link = quoted(net_column("rate").name) if query.has(net_column("rate").name) else "NULL"
    bandwidth = f"least(max_bandwidth_Bps, coalesce({link}, max_bandwidth_Bps))"
    ratio = f"coalesce({rate}, dirty_rate_Bps) / {bandwidth}"
    figure = ", ".join(f"{of}(downtime_ms)" for of in ("median", "min", "max"))
    line = ["strategy", "max_bandwidth_Bps", link]
    by = ", ".join([*names, "strategy", "workload_rate_Bps", "max_bandwidth_Bps", link])
    wanted = ", ".join([*names, *line, f"any_value({bandwidth})", f"median({ratio})", figure])
    where = f"{GOOD} AND NOT isinf({bandwidth}) AND {ratio} > 0"
    sql = f"SELECT {wanted} FROM results WHERE {where} GROUP BY {by} ORDER BY min(cell_index)"  # noqa: S608
    rows = query.ask(sql).rows
    found: dict[tuple[Scalar, ...], dict[tuple[Any, ...], list[tuple[float, Spread]]]] = {}
    for row in rows:
        at = len(rest)
        spread = spread_of(row[at + 5 :])
        if spread is not None:
            of = found.setdefault(row[:at], {}).setdefault(row[at : at + 4], [])
            of.append((float(row[at + 4]), spread))
    return [
        Curves(
            label(rest, values),
            tuple(
                DowntimeCurve(name, bandwidth, tuple(sorted(points, key=lambda point: point[0])))
                for (name, _, _, bandwidth), points in by_line.items()
            ),
        )
        for values, by_line in found.items()
    ]
