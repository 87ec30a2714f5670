"""Which of two limits held a run back: the one that the user set, or the link's own; pure."""

from __future__ import annotations

import math
from typing import TypeVar

from pydantic import BaseModel

from pageferry.common.report.schema import Report
from pageferry.common.report.sections.limits import BoundReport
from pageferry.common.units import human_bytes

C = TypeVar("C", bound=BaseModel)


def config_over_link(config: C, rate_Bps: float) -> C:
    """Return the configuration for a run over a link of a given rate.

    Where the link has a rate and the user set no limit, there is none: the link is what was asked
    for, and a prediction assumes its rate, too.

    Args:
        config: Is not changed; `max_bandwidth`, `predict` and `assume_bandwidth` are looked at, the
            latter two if the model has them.
        rate_Bps: Of the link, bytes/s; infinity: it has none.

    Returns:
        A copy, or `config` itself where nothing differs.
    """
    if math.isinf(rate_Bps) or "max_bandwidth" in config.model_fields_set:
        return config
    update = {"max_bandwidth": math.inf}
    if getattr(config, "predict", False) and getattr(config, "assume_bandwidth", None) is None:
        update["assume_bandwidth"] = rate_Bps
    return config.model_copy(update=update)


def lower_limit(limit_Bps: float, link_Bps: float) -> BoundReport | None:
    """Find out which of two limits holds a transfer back.

    Args:
        limit_Bps: `--max-bandwidth`, bytes/s; infinity: there is none.
        link_Bps: What one connection over the link carries, bytes/s; infinity: not known.

    Returns:
        The lower of the two; None where there is neither.
    """
    least = min(limit_Bps, link_Bps)
    if math.isinf(least):
        return None
    return BoundReport(
        by="link" if link_Bps < limit_Bps else "max-bandwidth",
        limit_Bps=None if math.isinf(limit_Bps) else limit_Bps,
        link_Bps=None if math.isinf(link_Bps) else link_Bps,
    )


def binding_limit(report: Report) -> BoundReport | None:
    """Find out what held a run back, from the link's measurement before the run.

    Args:
        report: Of the run.

    Returns:
        None where the run had no shaped link with a rate.
    """
    net, limit = report.net, report.config.get("max_bandwidth")
    if net is None or net.forward.rate_Bps is None:
        return None
    limit_Bps = float(limit) if isinstance(limit, (int, float)) else math.inf
    return lower_limit(limit_Bps, min(net.forward.rate_Bps, net.throughput_Bps))


def binding_limit_text(bound_: BoundReport) -> str | None:
    """Write a row of the table of results.

    Args:
        bound_: What held the run back.

    Returns:
        None where there were no two limits to choose from.
    """
    limit_Bps, link_Bps = bound_.limit_Bps, bound_.link_Bps
    if limit_Bps is None or link_Bps is None:
        return None
    limit, link = f"{human_bytes(limit_Bps)}/s", f"{human_bytes(link_Bps)}/s"
    if bound_.by == "link":
        return f"the link: it carries {link}, --max-bandwidth allows {limit}"
    return f"--max-bandwidth {limit}: the link carries {link}"
