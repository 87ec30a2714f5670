"""A workload of one's own: a guest that keeps a journal, stopped here and continued elsewhere.

    python examples/own_workload.py

The contract: a step is one access, and at most one write, which comes last, so that a step whose
page is missing can be given up and tried again. What it does depends on the seed, its number and
the memory that it reads. So memory after N steps is always the same, which is how a migration is
verified. The kernel is compiled by numba, and runs on a vCPU's thread without the interpreter lock.

What works today: all of this, in one process. Only `pageferry.Workload` is in `pageferry.__all__`;
the modules below may change. What doesn't work: `pageferry.migrate(workload="journal")`. The agents
are processes of their own, which do not import this file and say that the workload is unknown; and
`pageferry.simulate` knows no working set for it. CONTRIBUTING.md says how to add a workload to the
package.
"""

import time
from contextlib import closing

import numpy as np

import pageferry
from pageferry.common.guest.cache import access
from pageferry.common.guest.control import STEPS, VcpuArrays
from pageferry.common.guest.jit import kernel
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.pace import even
from pageferry.common.guest.quantum import begin_quantum, page_missing
from pageferry.common.guest.workloads.base import FIRST_PAGE, PAGES, Plan
from pageferry.common.units import LINES_PER_PAGE
from pageferry.common.workload.options import EXTENT, Option
from pageferry.common.workload.region import Region
from pageferry.common.workload.registry import WORKLOADS
from pageferry.common.workload.spec import Spec

RECORDS_PER_S = 100_000


@kernel
def append(m: VcpuArrays) -> None:
    """Live as a vCPU: write the number of each step into the next line, and round again."""
    first, lines = m.params[FIRST_PAGE] * LINES_PER_PAGE, m.params[PAGES] * LINES_PER_PAGE
    while True:
        steps = begin_quantum(m)
        if steps == 0:
            return
        for _ in range(steps):
            number = np.int64(m.state[STEPS])
            at = access(m, first + number % lines, True)
            if at < 0:  # the page has not come yet: the step is tried again when it has
                page_missing(m, -1 - at)
                break
            m.arena[at] = np.uint64(number)
            m.state[STEPS] += np.uint64(1)


class Journal(pageferry.Workload):
    """Appends records of 64 bytes to a file that is as large as its working set."""

    kernel = append

    def plan(self, region: Region) -> Plan:
        """Say how many pages this vCPU writes, and how fast."""
        pages = self.options["working-set"].pages(region)
        return Plan(pages=pages, pace=even(RECORDS_PER_S / region.vcpus))


WORKLOADS.add(
    Spec(
        name="journal",
        models="records that are appended to a file",
        about="Each vCPU writes line after line, and begins again at the end.",
        step="one record of 64 bytes",
        made_by=f"{__name__}:Journal",
        options={"working-set": Option("25%", EXTENT, "the file's size")},
    )
)


def main() -> None:
    """Run a guest here, hand it over as a migration would, and run it on there."""
    config = pageferry.MigrationConfig(memory=2**23, vcpus=2, workload="journal:working-set=1MiB")
    with closing(Guest(config, boot=True)) as here, closing(Guest(config, boot=False)) as there:
        run_for_a_moment(here)
        dirty = here.harvest()  # for each page a mask of the lines that were written
        print(f"here:  {sum(here.steps()):,} steps, {np.count_nonzero(dirty)} pages dirty")

        there.memory.words[:] = here.memory.words
        there.restore(here.snapshot())
        run_for_a_moment(there)
        here.run_until(there.steps())  # the replay that verifies a migration
        here.drain()
        same = here.digest() == there.digest()
        print(f"there: {sum(there.steps()):,} steps, {'verified' if same else 'NOT THE SAME'}")


def run_for_a_moment(guest: Guest) -> None:
    """Start its vCPUs, stop them again, and have their caches written back to memory."""
    guest.start()
    guest.resume()
    time.sleep(0.1)
    guest.pause()
    guest.drain()


if __name__ == "__main__":
    main()
