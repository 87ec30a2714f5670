"""The guest: memory, caches, dirty log and vCPUs behind one object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import LocalProtocolError
from pageferry.common.guest import control as c
from pageferry.common.guest import layout, snapshots
from pageferry.common.guest.cache import collect_dirty, count_dirty, drain_slice
from pageferry.common.guest.control import new_vcpu_control, witnessed
from pageferry.common.guest.digest import digest
from pageferry.common.guest.dirtylog import DirtyLog
from pageferry.common.guest.kerneldirty import DirtySource, KernelDirty
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.guest.runstate import Runnable
from pageferry.common.guest.seeds import fill_seed, regions
from pageferry.common.guest.stale import new_masks
from pageferry.common.guest.vcpu import EventFd, Vcpus
from pageferry.common.guest.workloads.making import make_workload
from pageferry.common.workload.registry import parse_workload

_NEVER_NS: Final = 2**62  # later than any CLOCK_MONOTONIC


class Guest(Runnable):
    """A guest of one configuration, for one controlling thread at a time.

    Blocking calls release the interpreter lock.

    Args:
        config: As asked for.
        boot: Set memory and workload up, as at the source; else memory is zero, to be filled.
        vcpu_nice: Added to the nice value of vCPU threads; 0: nothing.
        count_writes: Keep the counts that `write_counts` returns.
        witness: A file in which others see the vCPUs' control words change; None: nobody does.

    Attributes:
        n_pages: How many it has.
        config: As given, but its workload says which content of a file it means.
        memory: All of its memory, which lasts until `close`.
        kernel_dirty: Where harvests come from; None: from the dirty log.

    Raises:
        UsageError: The workload is wrong, or memory can't be had.
    """

    def __init__(
        self,
        config: GuestConfig,
        *,
        boot: bool,
        vcpu_nice: int = 0,
        count_writes: bool = False,
        witness: Path | None = None,
    ) -> None:
        self.n_pages = config.pages
        chosen = parse_workload(parse_workload(config.workload).pinned())
        self._workload = make_workload(chosen)
        self.config = config.model_copy(update={"workload": chosen.text})
        self._regions = regions(config)
        plans = [self._workload.plan(region) for region in self._regions]
        self.memory = GuestMemory(config.memory)
        log = new_masks(2 * self.n_pages)
        self._counts = new_masks(2 * self.n_pages if count_writes else 0)
        self._fds = [EventFd() for _ in range(config.vcpus + 2)]
        self._presence: NDArray[np.uint8] | None = None
        self._drains = 0
        rows = None if witness is None else witnessed(witness, config.vcpus)
        machines = [
            layout.arrays(
                config,
                region,
                plan,
                self.memory.words,
                log,
                self._counts,
                new_vcpu_control(
                    plan.pace,
                    *(self._fds[i].fd for i in (region.vcpu + 2, 0, 1)),
                    out=None if rows is None else rows[region.vcpu],
                ),
            )
            for region, plan in zip(self._regions, plans, strict=True)
        ]
        life = self._workload.life
        super().__init__(
            Vcpus(machines, self._fds[2:], self._fds[0], life, vcpu_nice), self._fds[0]
        )
        self._dirty_log = DirtyLog(log, self._vcpus)
        self.kernel_dirty: KernelDirty | None = None
        if boot:
            self.memory.fill(fill_seed(config), chosen.zero_share, chosen.entropy)
            for region in self._regions:
                self._workload.boot(self.memory, region)

    def close(self) -> None:
        """Stop, and release threads, descriptors and memory; idempotent.

        Whoever serves the vCPUs' page faults must have let go of them before.

        Raises:
            PageferryError: A vCPU does not stop; the memory stays mapped.
        """
        self.stop()
        for event in self._fds:
            event.close()
        self.track_by_log()
        self._vcpus.machines = ()
        self._dirty_log.close()
        self.memory.close()

    # -- cache and dirty log ------------------------------------------------------------------

    def hold(self, on: bool) -> None:
        """Evict dirty lines only from sets without a clean one.

        Args:
            on: False ends that.
        """
        self._vcpus.request({c.HOLD: int(on)}, "hold")

    def drain(self) -> int:
        """Write every dirty line back; they stay in the cache, clean.

        A running guest continues meanwhile; what it dirties again may stay dirty.

        Returns:
            How many lines were written back.
        """
        before = sum(self._words(c.DRAINED_LINES))
        self._drains += 1
        if self._vcpus.started:
            self._vcpus.request({c.DRAIN: self._drains}, "drain")
            self._vcpus.wait(
                lambda: all(m.ctl[c.DRAINED] == self._drains for m in self._vcpus.machines), "drain"
            )
        else:
            for m in self._vcpus.machines:
                m.ctl[c.DRAIN_CURSOR] = 0
                drain_slice(m, _NEVER_NS)
        return sum(self._words(c.DRAINED_LINES)) - before

    def harvest(self, out: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
        """Take what was written to memory since the last harvest; the log is empty then.

        Args:
            out: uint64[n_pages], bit b: the page's line b; it is ORed into. None: a new array.

        Returns:
            `out`.
        """
        if out is None:
            out = np.zeros(self.n_pages, np.uint64)
        source: DirtySource = self._dirty_log if self.kernel_dirty is None else self.kernel_dirty
        source.harvest(out)
        return out

    def track_by_kernel(self) -> None:
        """Have harvests ask the kernel, which knows pages only; see `KernelDirty` for errors."""
        if self.kernel_dirty is None:
            self.kernel_dirty = KernelDirty(self.memory, self._dirty_log)

    def track_by_log(self) -> None:
        """Have harvests ask the log again; idempotent. What was not harvested is forgotten."""
        if self.kernel_dirty is not None:
            self.kernel_dirty.close()
            self.kernel_dirty = None

    def cached_dirty(self, out: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
        """Look at what the caches hold and memory does not; nothing is cleared.

        Args:
            out: As for `harvest`.

        Returns:
            `out`; a guess while the guest runs, else exact.
        """
        if out is None:
            out = np.zeros(self.n_pages, np.uint64)
        for m in self._vcpus.machines:
            collect_dirty(m, out)
        return out

    def dirty_lines(self) -> int:
        """Count the lines that the caches hold dirty; a guess while the guest runs.

        Returns:
            Cache lines, of whatever length.
        """
        return sum(count_dirty(m) for m in self._vcpus.machines)

    def write_counts(self) -> NDArray[np.uint64]:
        """Copy the counts of lines that the guest wrote, and of those that reached memory.

        The difference is what its caches absorbed; without a cache there is none.

        Returns:
            uint64[2, n_pages], since the guest was made; [2, 0] if it was not made to count.
        """
        return self._counts.reshape(2, -1).copy()

    def cache_stats(self) -> dict[str, int] | None:
        """Read the caches' counters.

        Returns:
            Sums over all vCPUs, by name; None without a cache.
        """
        if not self.config.cache:
            return None
        names = {
            "hits": c.HITS,
            "misses": c.MISSES,
            "write_backs": c.WRITE_BACKS,
            "spills": c.SPILLS,
            "drained_lines": c.DRAINED_LINES,
        }
        return {name: sum(self._words(word)) for name, word in names.items()}

    # -- missing pages ------------------------------------------------------------------------

    @property
    def fault_eventfd(self) -> int:
        """Readable when a vCPU has begun to wait for a page; whoever serves pages clears it."""
        return self._fds[1].fd

    def set_presence(self, present: NDArray[np.uint8] | None) -> None:
        """Have vCPUs read a presence map from now on.

        Args:
            present: uint8[n_pages], non-zero: the page is there. The caller writes first the page,
                then its byte. None: every page is there.

        Raises:
            ValueError: It is another array.
        """
        if present is not None and (
            present.dtype != np.uint8
            or present.shape != (self.n_pages,)
            or not present.flags.c_contiguous
        ):
            raise ValueError(f"expected a presence map of uint8[{self.n_pages}]")
        address = 0 if present is None else present.ctypes.data
        self._vcpus.request({c.PRESENCE: address}, "presence map")
        self._presence = present

    @property
    def machines(self) -> Sequence[c.VcpuArrays]:
        """What each vCPU works on; its control words say which page it waits for."""
        return self._vcpus.machines

    def wanted_pages(self) -> list[tuple[int, int]]:
        """Find out which vCPUs wait for a page.

        The page may have arrived meanwhile: look at the presence map before placing it again.

        Returns:
            (vCPU, page) of each that waits.
        """
        return [(i, page) for i, page in enumerate(self._words(c.WANTED)) if page >= 0]

    def page_arrived(self) -> None:
        """Let vCPUs that wait for a page look at the presence map again."""
        self._vcpus.wake()

    # -- travelling ---------------------------------------------------------------------------

    def snapshot(self, *, drained: bool = True) -> dict[str, Any]:
        """Make a snapshot: what a destination needs beside memory. The guest must be paused.

        Args:
            drained: Check that it is drained; False: it will be before memory is read.

        Returns:
            What `restore` takes; msgpack can pack it.

        Raises:
            LocalProtocolError: The guest is not paused, or not drained.
        """
        self._must_be("snapshot", "paused")
        if drained:
            self._must_be_drained("snapshot")
        return snapshots.take_snapshot(self.config, [m.state for m in self._vcpus.machines])

    def restore(self, snap: dict[str, Any]) -> None:
        """Load a snapshot before the guest first runs; a resume then only wakes started threads.

        Args:
            snap: What arrived, of any content.

        Raises:
            RemoteProtocolError: It is not of such a guest.
            LocalProtocolError: The guest has run already.
        """
        self._must_be("restore", "new", "paused")
        if any(self.steps()):
            raise LocalProtocolError("restore: the guest has run already")
        states = snapshots.check_snapshot(self.config, snap)
        for m, state in zip(self._vcpus.machines, states, strict=True):
            m.state[:] = state

    # -- verifying ----------------------------------------------------------------------------

    def _must_be_drained(self, what: str) -> None:
        if self.dirty_lines():
            raise LocalProtocolError(f"{what}: the cache holds dirty lines, drain first")

    def digest(self) -> str:
        """Compute a digest of memory and registers. The guest must not run, and must be drained.

        Returns:
            xxh3_128, hexadecimal.

        Raises:
            LocalProtocolError: It runs, or is not drained.
        """
        self._must_be("digest", "new", "paused", "stopped")
        self._must_be_drained("digest")
        return digest(self.memory, [m.state for m in self._vcpus.machines])

    def digest_of(self, pages: NDArray[np.bool_], *, registers: bool = True) -> str:
        """Compute the digest of some pages, in order; the others are not touched.

        Args:
            pages: bool[n_pages].
            registers: Include them.

        Returns:
            As `digest`, and it raises the same.
        """
        self._must_be("digest", "new", "paused", "stopped")
        self._must_be_drained("digest")
        states = [m.state for m in self._vcpus.machines] if registers else []
        return digest(self.memory, states, pages)

    def check(self) -> str | None:
        """Run the workload's own check of memory. The guest must not run, and must be drained.

        Returns:
            What is wrong; None: nothing, or there is nothing to check.

        Raises:
            LocalProtocolError: It runs, or is not drained.
        """
        self._must_be("check", "new", "paused", "stopped")
        self._must_be_drained("check")
        for m, region in zip(self._vcpus.machines, self._regions, strict=True):
            problem = self._workload.check(self.memory, region, m.state)
            if problem is not None:
                return f"vCPU {region.vcpu}: {problem}"
        return None
