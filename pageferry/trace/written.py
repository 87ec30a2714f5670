"""What a program writes within a window of its trace: distinct pages, and distinct lines of them.

These are two of the map's axes (`paper.locality.points`), where a visit writes so many lines of a
page, the same ones each time, and the pages are drawn from a working set. Within any window that is
long enough each page that is written has just those lines written there, however often it was
visited, and the pages come to the working set. So both are read off the same window; it is also
what a round has to send of a guest, and what a comparison of its memory before and after sees.
Accesses between two changes of the page are no visit: a program goes to its stack in between.

What it can't say:

- how long a window is. A trace has no clock; a window is a number of accesses, and a large copy
  by libc is an access a byte (`rep movsb`): of a program that copies much it is a short one.
- whether it is the same lines each time. A real program goes on to other lines of its pages, so
  that pages and lines grow with the window. Hence several windows: a program is a path, not a spot.
- what the kernel writes for the program (what `read` puts into a buffer), or for itself.
- whether a write changes anything. A comparison of memory does not see what is written again with
  the same value; here it counts.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pageferry.common.files.memory_trace import LINE_SHIFT, PAGE_SHIFT

_WRITE: Final = np.uint32(1)
_LINES_OF: Final = np.uint32(PAGE_SHIFT - LINE_SHIFT)
_STARTS: Final = 16  # of a window within a trace, at most


class Written(BaseModel):
    """What is written within a window, of all places in the trace at which it was laid.

    Attributes:
        accesses: Length of the window.
        places: How many there were.
        writes: Accesses that write, as a share of all.
        pages: Distinct pages that are written: the windows' mean.
        pages_touched: Distinct pages that are read or written: the windows' mean.
        lines: Distinct 64-byte lines that are written / pages that are written.
        median_lines: The median over those pages, each window's counted by itself.
        writes_per_line: How often a line that is written is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accesses: int
    places: int
    writes: float
    pages: float
    pages_touched: float
    lines: float
    median_lines: float
    writes_per_line: float


def written_within(accesses: NDArray[np.uint32], length: int) -> Written:
    """Look at windows of a trace, as many as fit side by side, 16 at most.

    Args:
        accesses: As `common.files.memory_trace` has them, uint32[n].
        length: Of a window: 1 to n accesses.

    Returns:
        Of all windows together.

    Raises:
        ValueError: The trace is shorter than a window.
    """
    fitting = len(accesses) // length if length > 0 else 0
    if not fitting:
        raise ValueError(f"a trace of {len(accesses):,} accesses has no window of {length:,}")
    count = min(fitting, _STARTS)
    starts = np.linspace(0, len(accesses) - length, count).astype(np.int64)
    seen = [_window(accesses[start : start + length]) for start in starts]
    writes, touched = (sum(each[at] for each in seen) / count for at in (0, 1))
    of_page = np.concatenate([each[2] for each in seen])
    pages, lines = len(of_page) / count, float(of_page.sum()) / count
    return Written(
        accesses=length,
        places=count,
        writes=writes / length,
        pages=pages,
        pages_touched=touched,
        lines=lines / pages if pages else 0.0,
        median_lines=float(np.median(of_page)) if pages else 0.0,
        writes_per_line=writes / lines if lines else 0.0,
    )


def _window(part: NDArray[np.uint32]) -> tuple[int, int, NDArray[np.int64]]:
    """Count writes, pages touched, and the lines of each page that is written."""
    wrote = part[(part & _WRITE) != 0]
    lines = np.unique(wrote >> np.uint32(LINE_SHIFT))
    _, of_page = np.unique(lines >> _LINES_OF, return_counts=True)
    return len(wrote), len(np.unique(part >> np.uint32(PAGE_SHIFT))), of_page
