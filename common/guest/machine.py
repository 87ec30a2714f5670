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

_DIGEST_BYTES: Final = 4 << 20  # the interpreter lock is free between two of them, and within

_STALL_S: Final = 60.0  # a replay in which no vCPU takes a step for this long has failed

_NEVER_NS: Final = 2**62  # later than any CLOCK_MONOTONIC


class Guest:
    """A guest of this configuration, for one controlling thread at a time.

    config: as given, but that its workload says which content of a file it means.
    `boot`: fill memory and set the workload up, as at the source; otherwise memory is zero and
    waits for what arrives. count_writes: keep what `write_counts` tells. witness: a file in which
    others see the vCPUs' control words as they change. Blocking calls release the interpreter lock.
    Raises `UsageError` for a bad workload, and without memory.
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
        """`new`, `paused`, `running` or `stopped`."""
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
        """Have `tell` called, on whatever thread, when a vCPU fails; None: nobody any more."""
        self._vcpus.watch(tell)

    def start(self) -> None:
        """Spawn the vCPU threads, paused."""
        self._must_be("start", "new")
        self._vcpus.start()
        self._state = "paused"

    def resume(self) -> int:
        """Run. Returns when (ns) the last vCPU began its first quantum. Idempotent."""
        self._must_be("resume", "paused", "running")
        self._vcpus.request({c.WANT: c.RUNNING}, "resume")
        self._state = "running"
        return max(self._words(c.FIRST_NS))

    def pause(self) -> int:
        """Stop every vCPU between two steps. Returns when (ns) the first stopped. Idempotent."""
        self._must_be("pause", "paused", "running")
        self._vcpus.request({c.WANT: c.PAUSED}, "pause")
        self._state = "paused"
        return min(self._words(c.PAUSED_NS))

    def abandon_replay(self) -> None:
        """From any thread: `run_until` raises `PageferryError` soon; then only `close` is left."""
        self._abandoned = True
        self._fds[0].signal()

    def run_until(self, steps: Sequence[int]) -> None:
        """Run a paused guest to exactly these steps of each vCPU, flat out, and pause it there.

        Raises `LocalProtocolError` if a vCPU is past its count already.
        """
        self._must_be("run_until", "paused")
        if len(steps) != self.config.vcpus or any(
            target < done for target, done in zip(steps, self.steps(), strict=False)
        ):
            raise LocalProtocolError(f"the guest at steps {self.steps()} cannot run to {steps}")
        for m, target in zip(self._vcpus.machines, steps, strict=True):
            last = m.ctl[c.LAST_NS] if m.ctl[c.QUANTA] else 1  # a reset of the gaps sets it, too
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
        """Keep every vCPU from running for this share of its time (0: no longer; below 1).

        It sleeps between quanta, in cycles of some milliseconds, and a schedule goes slower by the
        same share. A replay is never throttled.
        """
        self._vcpus.request({c.THROTTLE: round(share * 1e6)}, "throttle")

    def limit_dirty(self, rate_Bps: float | None) -> None:
        """Slow each vCPU down so that it dirties memory at no more than this; None: no limit.

        A page counts when it is dirtied for the first time since the last harvest. What a drain
        writes back is not counted: the guest did not ask for it.
        """
        page_ns = max(1, round(PAGE_SIZE / rate_Bps * 1e9)) if rate_Bps else 0
        self._vcpus.request({c.DIRTY_NS: page_ns}, "dirty limit")

    def slowed_s(self) -> float:
        """Seconds for which vCPUs slept because of these two, all together."""
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
        """While held, a cache gives up a dirty line only if its set has no clean one."""
        self._vcpus.request({c.HOLD: int(on)}, "hold")

    def drain(self) -> int:
        """Write every dirty line back; returns how many. The lines stay in the cache, clean.

        A running guest goes on meanwhile; what it dirties again may stay dirty.
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
        """What was written to memory since the last harvest, ORed into `out`.

        uint64[n_pages], bit b: the page's line b. The log is empty afterwards.
        """
        if out is None:
            out = np.zeros(self.n_pages, np.uint64)
        source: DirtySource = self._dirty_log if self.kernel_dirty is None else self.kernel_dirty
        source.harvest(out)
        return out

    def track_by_kernel(self) -> None:
        """From now on a harvest asks the kernel, which knows pages only; see `KernelDirty`."""
        if self.kernel_dirty is None:
            self.kernel_dirty = KernelDirty(self.memory, self._dirty_log)

    def track_by_log(self) -> None:
        """As at first. What was written and not harvested is forgotten; idempotent."""
        if self.kernel_dirty is not None:
            self.kernel_dirty.close()
            self.kernel_dirty = None

    def cached_dirty(self, out: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
        """What the caches hold and memory does not: like `harvest`, but nothing is cleared.

        Exact while the guest is paused, a guess while it runs.
        """
        if out is None:
            out = np.zeros(self.n_pages, np.uint64)
        for m in self._vcpus.machines:
            collect_dirty(m, out)
        return out

    def write_counts(self) -> NDArray[np.uint64]:
        """uint64[2, n_pages], a copy: lines that the guest wrote, and those that reached memory.

        The difference is what its caches absorbed; without a cache there is none. Counted since the
        guest was made, if it was made to count them.
        """
        return self._counts.reshape(2, -1).copy()

    # -- missing pages ------------------------------------------------------------------------

    @property
    def fault_eventfd(self) -> int:
        """Readable when a vCPU has begun to wait for a page; whoever serves pages clears it."""
        return self._fds[1].fd

    def set_presence(self, present: NDArray[np.uint8] | None) -> None:
        """uint8[n_pages], non-zero: the page is there. None: every page is.

        vCPUs read the map from now on, and the caller writes it: first the page, then its byte.
        Raises `ValueError` if it is not of this kind.
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
        """(vCPU, page) of each vCPU that waits for a page.

        It may have arrived meanwhile: look at the presence map before placing it again.
        """
        return [(i, page) for i, page in enumerate(self._words(c.WANTED)) if page >= 0]

    def page_arrived(self) -> None:
        """Let vCPUs that wait for a page look at the presence map again."""
        self._vcpus.wake()

    # -- travelling ---------------------------------------------------------------------------

    def snapshot(self, *, drained: bool = True) -> dict[str, Any]:
        """What a destination needs beside memory. The guest must be paused, and drained.

        drained=False: the caller drains later, before anybody reads memory.
        """
        self._must_be("snapshot", "paused")
        if drained:
            self._must_be_drained("snapshot")
        return snapshots.take(self.config, [m.state for m in self._vcpus.machines])

    def restore(self, snap: dict[str, Any]) -> None:
        """Take a snapshot, before the guest first runs. Raises `RemoteProtocolError` if it is none.

        The threads may have been started: what then remains of a resume is to wake them.
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
        """Steps done by each vCPU, as of its last quantum's end."""
        return tuple(int(m.state[c.STEPS]) for m in self._vcpus.machines)

    def progress(self) -> Progress:
        """A cheap sample, from any thread."""
        return Progress(monotonic_ns(new_scratch()), sum(self.steps()), sum(self._words(c.DIRTIED)))

    def heartbeats(self) -> tuple[Beats, ...]:
        """Of each vCPU."""
        return tuple(
            Beats(*(int(m.ctl[word]) for word in range(c.FIRST_NS, c.GAP_END_NS + 1)))
            for m in self._vcpus.machines
        )

    def quanta(self) -> int:
        """How many quanta the vCPUs have begun; with `cpu_s`, how long one takes."""
        return sum(self._words(c.QUANTA))

    def reset_gaps(self) -> None:
        """Forget the longest gaps so far."""
        self._resets += 1
        self._vcpus.request({c.GAP_RESET: self._resets}, "reset")

    def cache_stats(self) -> dict[str, int] | None:
        """Counts of all vCPUs' caches; None without one."""
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
        """CPU seconds of the vCPU threads."""
        return self._vcpus.cpu_ns() / 1e9

    # -- verifying ----------------------------------------------------------------------------

    def _must_be_drained(self, what: str) -> None:
        if any(count_dirty(m) for m in self._vcpus.machines):
            raise LocalProtocolError(f"{what}: the cache holds dirty lines, drain first")

    def digest(self) -> str:
        """xxh3_128 of memory and registers, hexadecimal.

        The guest must not run, and must be drained.
        """
        self._must_be("digest", "new", "paused", "stopped")
        self._must_be_drained("digest")
        hasher = xxhash.xxh3_128()
        for start in range(0, self.memory.size, _DIGEST_BYTES):
            hasher.update(self.memory.view[start : start + _DIGEST_BYTES])
        return self._with_registers(hasher)

    def digest_of(self, pages: NDArray[np.bool_], *, registers: bool = True) -> str:
        """The same of some pages only (bool[n_pages]), in order; the others are not touched."""
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
        """The workload's own check of memory; None: nothing wrong, or nothing to check."""
        self._must_be("check", "new", "paused", "stopped")
        self._must_be_drained("check")
        for m, region in zip(self._vcpus.machines, self._regions, strict=True):
            problem = self._workload.check(self.memory, region, m.state)
            if problem is not None:
                return f"vCPU {region.vcpu}: {problem}"
        return None
