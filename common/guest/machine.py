"""The guest: memory, caches, dirty log and vCPUs behind one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import LocalProtocolError, PageferryError
from pageferry.common.guest import control as c
from pageferry.common.guest import layout, snapshots
from pageferry.common.guest.cache import collect_dirty, count_dirty, drain_slice
from pageferry.common.guest.control import new_control, new_scratch, witnessed
from pageferry.common.guest.dirtylog import DirtyLog
from pageferry.common.guest.kerneldirty import DirtySource, KernelDirty
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.guest.native import monotonic_ns
from pageferry.common.guest.progress import Beats, Progress
from pageferry.common.guest.seeds import fill_seed, regions
from pageferry.common.guest.stale import new_masks
from pageferry.common.guest.vcpu import EventFd, Vcpus
from pageferry.common.guest.workloads.making import make_workload
from pageferry.common.units import PAGE_SIZE
from pageferry.common.workload.registry import choose

_DIGEST_BYTES: Final = 4 << 20  # the interpreter lock is free between two of them, and during each

_STALL_S: Final = 60.0  # a replay in which no vCPU takes a step for this long has failed

_NEVER_NS: Final = 2**62  # later than any CLOCK_MONOTONIC


class Guest:
    """A guest of one configuration, for one controlling thread at a time.

    Blocking calls release the interpreter lock. Raises `UsageError`: bad workload, or no memory.

    Args:
        config: As asked for.
        boot: Set memory and workload up, as at the source; else memory is zero, to be filled.
        vcpu_nice: Added to the nice value of vCPU threads; 0: nothing.
        count_writes: Keep the counts that `write_counts` returns.
        witness: A file in which others see the vCPUs' control words change; None: nobody does.

    Attributes:
        config: As given, but its workload says which content of a file it means.
        memory: All of its memory, which lasts until `close`.
        kernel_dirty: Where harvests come from; None: from the dirty log.
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
        chosen = choose(choose(config.workload).pinned())
        self._workload = make_workload(chosen)
        self.config = config.model_copy(update={"workload": chosen.text})
        self._regions = regions(config)
        plans = [self._workload.plan(region) for region in self._regions]
        self.memory = GuestMemory(config.memory)
        log = new_masks(2 * self.n_pages)
        self._counts = new_masks(2 * self.n_pages if count_writes else 0)
        self._fds = [EventFd() for _ in range(config.vcpus + 2)]
        self._scratch = new_scratch()
        self._presence: NDArray[np.uint8] | None = None
        self._drains = 0
        self._resets = 0
        self._state = "new"
        self._abandoned = False
        rows = None if witness is None else witnessed(witness, config.vcpus)
        machines = [
            layout.arrays(
                config,
                region,
                plan,
                self.memory.words,
                log,
                self._counts,
                new_control(
                    plan.pace,
                    *(self._fds[i].fd for i in (region.vcpu + 2, 0, 1)),
                    out=None if rows is None else rows[region.vcpu],
                ),
            )
            for region, plan in zip(self._regions, plans, strict=True)
        ]
        life = self._workload.life
        self._vcpus = Vcpus(machines, self._fds[2:], self._fds[0], life, vcpu_nice)
        self._dirty_log = DirtyLog(log, self._vcpus)
        self.kernel_dirty: KernelDirty | None = None
        if boot:
            self.memory.fill(fill_seed(config), chosen.zero_share, chosen.entropy)
            for region in self._regions:
                self._workload.boot(self.memory, region)

    # -- running ------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """The state: `new`, `paused`, `running` or `stopped`."""
        return self._state

    def _must_be(self, what: str, *states: str) -> None:
        if self._state not in states:
            raise LocalProtocolError(
                f"{what}: the guest is {self._state}, expected {' or '.join(states)}"
            )

    @property
    def failure(self) -> PageferryError | None:
        """Why it will never run again: a vCPU has failed; None: none has."""
        return self._vcpus.failure

    def watch(self, tell: Callable[[PageferryError], None] | None) -> None:
        """Have `tell` called, on any thread, when a vCPU fails. Args: `tell`: None: nobody is."""
        self._vcpus.watch(tell)

    def start(self) -> None:
        """Spawn the vCPU threads, paused."""
        self._must_be("start", "new")
        self._vcpus.start()
        self._state = "paused"

    def resume(self) -> int:
        """Run; idempotent. Returns: when (CLOCK_MONOTONIC ns) the last vCPU began to."""
        self._must_be("resume", "paused", "running")
        self._vcpus.request({c.WANT: c.RUNNING}, "resume")
        self._state = "running"
        return max(self._words(c.FIRST_NS))

    def pause(self) -> int:
        """Stop every vCPU between two steps; idempotent. Returns: when (ns) the first stopped."""
        self._must_be("pause", "paused", "running")
        self._vcpus.request({c.WANT: c.PAUSED}, "pause")
        self._state = "paused"
        return min(self._words(c.PAUSED_NS))

    def abandon_replay(self) -> None:
        """Have `run_until` raise `PageferryError` soon, from any thread; only `close` is left."""
        self._abandoned = True
        self._fds[0].signal()

    def run_until(self, steps: Sequence[int]) -> None:
        """Run a paused guest to exactly these steps, flat out, and pause it there.

        Args: `steps`: of each vCPU. Raises `LocalProtocolError` if one is past its count already,
        and `PageferryError` if none takes a step for a minute.
        """
        self._must_be("run_until", "paused")
        if len(steps) != self.config.vcpus or any(
            target < done for target, done in zip(steps, self.steps(), strict=False)
        ):
            raise LocalProtocolError(f"the guest at steps {self.steps()} cannot run to {steps}")
        for m, target in zip(self._vcpus.machines, steps, strict=True):
            last = m.ctl[c.LAST_NS] if m.ctl[c.QUANTA] else 1  # resetting the gaps sets it, too
            m.ctl[c.REPLAY] = m.ctl[c.REPLAY] or last
            m.ctl[c.TARGET] = target
        self._vcpus.request({c.WANT: c.RUNNING}, "replay")
        self._state = "running"
        self._wait_for_steps(tuple(steps))
        self._vcpus.request({c.WANT: c.PAUSED}, "replay")
        self._vcpus.request({c.TARGET: -1}, "replay")
        self._state = "paused"

    def _wait_for_steps(self, target: tuple[int, ...]) -> None:
        while (before := self.steps()) != target:
            if self._abandoned:
                raise PageferryError("the replay was given up")
            try:
                self._vcpus.wait(
                    lambda: self._abandoned or self.steps() == target, "replay", _STALL_S
                )
            except PageferryError:
                if self.steps() == before:
                    raise

    def throttle(self, share: float) -> None:
        """Keep every vCPU from running for a share of its time.

        It sleeps between quanta, in cycles of some milliseconds, and a schedule goes slower by the
        same share. A replay is never throttled. Args: `share`: below 1; 0: no longer.
        """
        self._vcpus.request({c.THROTTLE: round(share * 1e6)}, "throttle")

    def limit_dirty(self, rate_Bps: float | None) -> None:
        """Slow each vCPU down so that it dirties memory at no more than a rate.

        A page counts when it is first dirtied since the last harvest. What a drain writes back does
        not: the guest did not ask for it. Args: `rate_Bps`: bytes/s of each vCPU; None: no limit.
        """
        page_ns = max(1, round(PAGE_SIZE / rate_Bps * 1e9)) if rate_Bps else 0
        self._vcpus.request({c.DIRTY_NS: page_ns}, "dirty limit")

    def slowed_s(self) -> float:
        """Read how long vCPUs slept because of these two. Returns: seconds, all together."""
        return sum(self._words(c.SLOWED_NS)) / 1e9

    def stop(self) -> None:
        """End the vCPU threads for good; idempotent. Memory stays."""
        self._vcpus.stop()
        self._state = "stopped"

    def close(self) -> None:
        """Stop, and release threads, descriptors and memory; idempotent.

        Raises `PageferryError` and keeps the memory mapped if a vCPU does not stop: whoever serves
        its page faults must have let go of it before.
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
        """Evict dirty lines only from sets without a clean one. Args: `on`: False ends that."""
        self._vcpus.request({c.HOLD: int(on)}, "hold")

    def drain(self) -> int:
        """Write every dirty line back; they stay in the cache, clean. Returns: how many lines.

        A running guest continues meanwhile; what it dirties again may stay dirty.
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
        """OR what was written to memory since the last harvest into `out`; the log is empty then.

        Args: `out`: uint64[n_pages], bit b: the page's line b; None: a new one. Returns: `out`.
        """
        if out is None:
            out = np.zeros(self.n_pages, np.uint64)
        source: DirtySource = self._dirty_log if self.kernel_dirty is None else self.kernel_dirty
        source.harvest(out)
        return out

    def track_by_kernel(self) -> None:
        """Have harvests ask the kernel, which knows pages only. Raises as `KernelDirty` does."""
        if self.kernel_dirty is None:
            self.kernel_dirty = KernelDirty(self.memory, self._dirty_log)

    def track_by_log(self) -> None:
        """Have harvests ask the log again; idempotent. What was not harvested is forgotten."""
        if self.kernel_dirty is not None:
            self.kernel_dirty.close()
            self.kernel_dirty = None

    def cached_dirty(self, out: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
        """OR what the caches hold and memory does not into `out`; nothing is cleared.

        Args: `out`: as for `harvest`. Returns: `out`; a guess while the guest runs, else exact.
        """
        if out is None:
            out = np.zeros(self.n_pages, np.uint64)
        for m in self._vcpus.machines:
            collect_dirty(m, out)
        return out

    def write_counts(self) -> NDArray[np.uint64]:
        """Copy the counts of lines that the guest wrote, and of those that reached memory.

        The difference is what its caches absorbed; without a cache there is none. Returns:
        uint64[2, n_pages], since the guest was made; [2, 0] if it was not made to count.
        """
        return self._counts.reshape(2, -1).copy()

    # -- missing pages ------------------------------------------------------------------------

    @property
    def fault_eventfd(self) -> int:
        """Readable when a vCPU has begun to wait for a page; whoever serves pages clears it."""
        return self._fds[1].fd

    def set_presence(self, present: NDArray[np.uint8] | None) -> None:
        """Have vCPUs read a presence map from now on.

        Args: `present`: uint8[n_pages], non-zero: the page is there; None: every page is. The
        caller writes first the page, then its byte. Raises `ValueError` for any other array.
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
        """Find out who waits for a page. Returns: (vCPU, page) of each vCPU that does.

        The page may have arrived meanwhile: look at the presence map before placing it again.
        """
        return [(i, page) for i, page in enumerate(self._words(c.WANTED)) if page >= 0]

    def page_arrived(self) -> None:
        """Let vCPUs that wait for a page look at the presence map again."""
        self._vcpus.wake()

    # -- travelling ---------------------------------------------------------------------------

    def snapshot(self, *, drained: bool = True) -> dict[str, Any]:
        """Make a snapshot: what a destination needs beside memory. The guest must be paused.

        Args: `drained`: check that it is; False: it will be before memory is read. Returns: it.
        """
        self._must_be("snapshot", "paused")
        if drained:
            self._must_be_drained("snapshot")
        return snapshots.take(self.config, [m.state for m in self._vcpus.machines])

    def restore(self, snap: dict[str, Any]) -> None:
        """Load a snapshot before the guest first runs; a resume then only wakes started threads.

        Args: `snap`: what arrived. Raises `RemoteProtocolError` if it is not of such a guest.
        """
        self._must_be("restore", "new", "paused")
        if any(self.steps()):
            raise LocalProtocolError("restore: the guest has run already")
        states = snapshots.check(self.config, snap)
        for m, state in zip(self._vcpus.machines, states, strict=True):
            m.state[:] = state

    # -- looking ------------------------------------------------------------------------------

    def _words(self, word: int) -> list[int]:
        return [int(m.ctl[word]) for m in self._vcpus.machines]

    def steps(self) -> tuple[int, ...]:
        """Read step counts. Returns: steps done by each vCPU, as of its last quantum's end."""
        return tuple(int(m.state[c.STEPS]) for m in self._vcpus.machines)

    def progress(self) -> Progress:
        """Sample the counters cheaply, from any thread. Returns: sums over all vCPUs."""
        return Progress(monotonic_ns(new_scratch()), sum(self.steps()), sum(self._words(c.DIRTIED)))

    def heartbeats(self) -> tuple[Beats, ...]:
        """Read each vCPU's own record of when it ran. Returns: one per vCPU, in order."""
        return tuple(
            Beats(*(int(m.ctl[word]) for word in range(c.FIRST_NS, c.GAP_END_NS + 1)))
            for m in self._vcpus.machines
        )

    def quanta(self) -> int:
        """Count quanta. Returns: how many have begun; with `cpu_s`, how long one takes."""
        return sum(self._words(c.QUANTA))

    def reset_gaps(self) -> None:
        """Forget the longest gaps so far."""
        self._resets += 1
        self._vcpus.request({c.GAP_RESET: self._resets}, "reset")

    def cache_stats(self) -> dict[str, int] | None:
        """Read the caches' counters. Returns: sums over all vCPUs by name; None without a cache."""
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

    def cpu_s(self) -> float:
        """Read the CPU time of the vCPU threads. Returns: seconds."""
        return self._vcpus.cpu_ns() / 1e9

    # -- verifying ----------------------------------------------------------------------------

    def _must_be_drained(self, what: str) -> None:
        if any(count_dirty(m) for m in self._vcpus.machines):
            raise LocalProtocolError(f"{what}: the cache holds dirty lines, drain first")

    def digest(self) -> str:
        """Compute a digest of memory and registers. The guest must not run, and must be drained.

        Returns: xxh3_128, hexadecimal. Raises `LocalProtocolError` otherwise.
        """
        self._must_be("digest", "new", "paused", "stopped")
        self._must_be_drained("digest")
        hasher = xxhash.xxh3_128()
        for start in range(0, self.memory.size, _DIGEST_BYTES):
            hasher.update(self.memory.view[start : start + _DIGEST_BYTES])
        return self._with_registers(hasher)

    def digest_of(self, pages: NDArray[np.bool_], *, registers: bool = True) -> str:
        """Compute the digest of some pages, in order; the others are not touched.

        Args: `pages`: bool[n_pages]; `registers`: include them. Returns: as `digest`.
        """
        self._must_be("digest", "new", "paused", "stopped")
        self._must_be_drained("digest")
        hasher = xxhash.xxh3_128()
        edges = np.flatnonzero(np.diff(pages.astype(np.int8), prepend=0, append=0))
        for first, end in edges.reshape(-1, 2).tolist():
            for start in range(first * PAGE_SIZE, end * PAGE_SIZE, _DIGEST_BYTES):
                stop = min(start + _DIGEST_BYTES, end * PAGE_SIZE)
                hasher.update(self.memory.view[start:stop])
        return self._with_registers(hasher) if registers else str(hasher.hexdigest())

    def _with_registers(self, hasher: Any) -> str:
        for m in self._vcpus.machines:
            hasher.update(m.state.astype("<u8").tobytes())
        return str(hasher.hexdigest())

    def check(self) -> str | None:
        """Run the workload's own check of memory. Returns: what is wrong; None: nothing found."""
        self._must_be("check", "new", "paused", "stopped")
        self._must_be_drained("check")
        for m, region in zip(self._vcpus.machines, self._regions, strict=True):
            problem = self._workload.check(self.memory, region, m.state)
            if problem is not None:
                return f"vCPU {region.vcpu}: {problem}"
        return None
