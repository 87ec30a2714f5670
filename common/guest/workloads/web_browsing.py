"""The paper's first example: somebody reads the web."""

from __future__ import annotations

from typing import Final

import numpy as np

from pageferry.common.guest.cache import access
from pageferry.common.guest.control import STEPS, VcpuArrays
from pageferry.common.guest.jit import inlined, kernel
from pageferry.common.guest.native import signed
from pageferry.common.guest.pace import Pace
from pageferry.common.guest.quantum import begin_quantum, page_missing
from pageferry.common.guest.rng import GOLDEN, mix
from pageferry.common.guest.workloads.base import FIRST_PAGE, OWN, PAGES, SEED, Plan, Workload
from pageferry.common.units import LINES_PER_PAGE
from pageferry.common.workload.region import Region
from pageferry.common.workload.shapes import FRAMES_PER_S

_REDRAW: Final = OWN  # lines of a redraw
_ANIMATED: Final = OWN + 1  # lines of the animation, the first ones of the window
_CYCLE: Final = OWN + 2  # steps from click to click
_REGION_PAGES: Final = OWN + 3
_ONE: Final = np.uint64(1)
_HALF: Final = np.uint64(32)


@inlined
def _target(m: VcpuArrays, step: int) -> int:
    """Return which 64 bytes of the region a step writes."""
    p = m.params
    click = step // p[_CYCLE]
    within = step - click * p[_CYCLE]
    if within < p[_REDRAW]:
        return signed(within)
    if within == p[_REDRAW]:  # the cookie: anywhere outside the window
        h = mix(np.uint64(p[SEED]) + np.uint64(click))
        outside = (p[_REGION_PAGES] - p[PAGES]) << 6
        return signed((p[PAGES] << 6) + signed(((h >> _HALF) * np.uint64(outside)) >> _HALF))
    return signed((within - p[_REDRAW] - 1) % p[_ANIMATED])


@kernel
def quantum(m: VcpuArrays, n: int) -> None:
    """Run `n` steps, or fewer if a page is missing.

    Args:
        m: What the vCPU works on; its `state` counts the steps done.
        n: Steps to run, as `begin_quantum` returned it.
    """
    base = m.params[FIRST_PAGE] << 6
    for _ in range(n):
        step = signed(m.state[STEPS])
        part = base + _target(m, step)
        at = access(m, part, True)
        if at < 0:
            page_missing(m, -1 - at)
            break
        m.arena[at + (part & 7)] += (np.uint64(step) * GOLDEN) | _ONE
        m.state[STEPS] = np.uint64(step + 1)


@kernel
def run(m: VcpuArrays) -> None:
    """Run quanta until the vCPU is told to stop.

    Args:
        m: What the vCPU works on.
    """
    while True:
        n = begin_quantum(m)
        if n == 0:
            return
        quantum(m, n)


class WebBrowsing(Workload):
    """A click redraws the whole window, then somebody reads while only an animation runs.

    A click rewrites the window (`working-set`) at once and leaves a cookie, one line somewhere
    else. Until the next click, `think` later, the animated part of the window (`animation`) is
    redrawn 25 times a second; `animation=0` has none.
    """

    kernel = run

    def plan(self, region: Region) -> Plan:
        """Plan a period of `think`: redraw and cookie as a burst, then the animation's frames.

        Args:
            region: The vCPU's part of the guest.

        Returns:
            A window that leaves at least one page of the region for cookies.
        """
        window = min(self.options["working-set"].pages(region), region.pages - 1)
        animation = self.options["animation"]
        animated = 0 if animation.empty else min(animation.pages(region), window)
        think = float(self.options["think"])
        redraw = window * LINES_PER_PAGE
        frames = max(1, round(think * FRAMES_PER_S))
        steps = redraw + 1 + frames * animated * LINES_PER_PAGE
        return Plan(
            pages=window,
            own=(redraw, max(1, animated * LINES_PER_PAGE), steps, region.pages),
            pace=Pace(period_ns=round(think * 1e9), burst=redraw + 1, steps=steps),
        )
