"""Notes on the reproduction's figures.

How to read them, the load's locality, and what is odd about the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pageferry.common.units import format_size
from pageferry.common.workload.registry import parse_workload
from pageferry.paper import published
from pageferry.paper.experiment import Setting
from pageferry.paper.findings import Result


@dataclass(frozen=True, slots=True)
class Locality:
    """How far the I/O load's accesses hit the cache, and why.

    Attributes:
        hit_share: Of all accesses in the runs with the cache, at both hosts.
        working_set: Bytes.
        cache: Bytes.
        lines_per_visit: 64-byte lines that are written of a page before the next one.
    """

    hit_share: float
    working_set: int
    cache: int
    lines_per_visit: int

    def to_json(self) -> dict[str, object]:
        """Convert to what the document has.

        Returns:
            Values by the names of fields.
        """
        return asdict(self)


def locality(results: Sequence[Result], setting: Setting) -> Locality | None:
    """Compute the locality of the I/O load.

    Args:
        results: Of all cells so far.
        setting: What was asked for.

    Returns:
        The locality; None until a run with the cache has completed.
    """
    cached = [each for each in results if each.cell.load is published.IO and each.cell.cached]
    accesses = sum(each.hits + each.misses for each in cached)
    if not accesses:
        return None
    options = parse_workload(published.IO.workload).options
    extent = options["working-set"]
    return Locality(
        hit_share=sum(each.hits for each in cached) / accesses,
        working_set=extent.size or round(extent.share * setting.memory),
        cache=setting.cache,
        lines_per_visit=int(options["lines"]),
    )


def remarks(setting: Setting, found: Locality | None) -> list[str]:
    """List what must be known to read the tables, and what is odd about the paper.

    Args:
        setting: What was asked for.
        found: The I/O load's locality; None where it is not known.

    Returns:
        A paragraph each.
    """
    out = []
    if setting.scale != 1:
        out.append(
            f"Scaled down: memory and cache are 1/{setting.scale} of the paper's, link and loads"
            " run at full rate. A transfer takes"
            f" 1/{setting.scale} of the time and the same share of memory changes meanwhile, so"
            f" the paper's times are divided by {setting.scale}. What does not scale: the pause"
            " and the hand-over (some milliseconds), and the web pages' clicks."
        )
    out.append(
        f"Without the cache, pre-copy does its {published.FIXED_ROUNDS} rounds after the full one"
        " whatever it sees (its downtime limit is one that no stop meets), then stops. Path 2"
        f" drains at most {published.FIXED_ROUNDS} times, in brackets under rounds, and stops"
        " before that when less than 10% of memory is left. Out of rounds, it hands over by"
        f" {setting.path3}, as path 3 does."
    )
    out.append(
        "A ratio of three-path to pre-copy is the cache's and the strategy's together: path 2 may"
        " stop after fewer rounds, and out of rounds it does not stop for what is left. The ratio"
        " of three-path to itself without a cache is the cache's alone."
    )
    if found is not None:
        out.append(
            f"The I/O load's locality: {100 * found.hit_share:.1f} % of its accesses hit the"
            f" cache. It writes {found.lines_per_visit} lines of each page that it visits, each"
            f" once; its working set of {format_size(found.working_set)} is"
            f" {found.working_set / found.cache:.0f} caches, so that a page is mostly"
            " visited again long after its lines have left the cache."
        )
    return out + list(published.NOTES)
