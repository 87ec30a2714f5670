"""A guest's run state: its vCPUs started, paused, resumed, replayed, slowed down and ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pageferry.common.errors import LocalProtocolError, PageferryError
from pageferry.common.guest import control as c
from pageferry.common.guest.control import new_scratch
from pageferry.common.guest.native import monotonic_ns
from pageferry.common.guest.progress import Beats, Progress
from pageferry.common.guest.vcpu import EventFd, Vcpus
from pageferry.common.units import PAGE_SIZE

_STALL_S: Final = 60.0  # a replay in which no vCPU takes a step for this long has failed


class Runnable:
    """vCPUs that run, for one controlling thread at a time.

    Blocking calls release the interpreter lock.

    Args:
        vcpus: Not started yet.
        done: The eventfd that all of them signal, and that a wait for them polls.
    """

    def __init__(self, vcpus: Vcpus, done: EventFd) -> None:
        self._vcpus = vcpus
        self._done = done
        self._resets = 0
        self._state = "new"
        self._abandoned = False

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
        """Have a function called when a vCPU fails; at once, if one has failed already.

        Args:
            tell: Called with the failure, on any thread; None: nobody is told any more.
        """
        self._vcpus.watch(tell)

    def start(self) -> None:
        """Spawn the vCPU threads, paused.

        Raises:
            LocalProtocolError: They have been started before.
            PageferryError: A vCPU failed, or did not report in time.
        """
        self._must_be("start", "new")
        self._vcpus.start()
        self._state = "paused"

    def resume(self) -> int:
        """Run; idempotent.

        Returns:
            When the last vCPU began to, CLOCK_MONOTONIC ns.

        Raises:
            LocalProtocolError: There are no threads yet, or no more.
            PageferryError: A vCPU failed or does not answer.
        """
        self._must_be("resume", "paused", "running")
        self._vcpus.request({c.WANT: c.RUNNING}, "resume")
        self._state = "running"
        return max(self._words(c.FIRST_NS))

    def pause(self) -> int:
        """Stop every vCPU between two steps; idempotent.

        Returns:
            When the first one stopped, CLOCK_MONOTONIC ns.

        Raises:
            LocalProtocolError: There are no threads yet, or no more.
            PageferryError: A vCPU failed or does not answer.
        """
        self._must_be("pause", "paused", "running")
        self._vcpus.request({c.WANT: c.PAUSED}, "pause")
        self._state = "paused"
        return min(self._words(c.PAUSED_NS))

    def abandon_replay(self) -> None:
        """Have `run_until` raise `PageferryError` soon, from any thread; only `close` is left."""
        self._abandoned = True
        self._done.signal()

    def run_until(self, steps: Sequence[int]) -> None:
        """Run a paused guest to exactly these steps, flat out, and pause it there.

        Args:
            steps: Of each vCPU, in order.

        Raises:
            LocalProtocolError: One is past its count already, or the guest is not paused.
            PageferryError: None took a step for a minute, or the replay was given up.
        """
        self._must_be("run_until", "paused")
        if len(steps) != len(self._vcpus.machines) or any(
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
        same share. A replay is never throttled.

        Args:
            share: Below 1; 0: no longer.
        """
        self._vcpus.request({c.THROTTLE: round(share * 1e6)}, "throttle")

    def limit_dirty(self, rate_Bps: float | None) -> None:
        """Slow each vCPU down so that it dirties memory at no more than a rate.

        A page counts when it is first dirtied since the last harvest. What a drain writes back does
        not: the guest did not ask for it.

        Args:
            rate_Bps: Bytes/s of each vCPU; None: no limit.
        """
        page_ns = max(1, round(PAGE_SIZE / rate_Bps * 1e9)) if rate_Bps else 0
        self._vcpus.request({c.DIRTY_NS: page_ns}, "dirty limit")

    def slowed_s(self) -> float:
        """Read how long vCPUs slept because of `throttle` and `limit_dirty`.

        Returns:
            Seconds, all vCPUs together.
        """
        return sum(self._words(c.SLOWED_NS)) / 1e9

    def stop(self) -> None:
        """End the vCPU threads for good; idempotent. Memory stays.

        Raises:
            PageferryError: A vCPU did not stop, as in a page fault that nobody serves.
        """
        self._vcpus.stop()
        self._state = "stopped"

    # -- looking ------------------------------------------------------------------------------

    def _words(self, word: int) -> list[int]:
        return [int(m.ctl[word]) for m in self._vcpus.machines]

    def steps(self) -> tuple[int, ...]:
        """Read step counts.

        Returns:
            Steps done by each vCPU, as of its last quantum's end.
        """
        return tuple(int(m.state[c.STEPS]) for m in self._vcpus.machines)

    def progress(self) -> Progress:
        """Sample the counters cheaply, from any thread.

        Returns:
            Sums over all vCPUs.
        """
        return Progress(monotonic_ns(new_scratch()), sum(self.steps()), sum(self._words(c.DIRTIED)))

    def heartbeats(self) -> tuple[Beats, ...]:
        """Read each vCPU's own record of when it ran.

        Returns:
            One per vCPU, in order.
        """
        return tuple(
            Beats(*(int(m.ctl[word]) for word in range(c.FIRST_NS, c.GAP_END_NS + 1)))
            for m in self._vcpus.machines
        )

    def quanta(self) -> int:
        """Count quanta.

        Returns:
            How many have begun; with `cpu_s`, how long one takes.
        """
        return sum(self._words(c.QUANTA))

    def reset_gaps(self) -> None:
        """Forget the longest gaps so far."""
        self._resets += 1
        self._vcpus.request({c.GAP_RESET: self._resets}, "reset")

    def cpu_s(self) -> float:
        """Read the CPU time of the vCPU threads.

        Returns:
            Seconds.
        """
        return self._vcpus.cpu_ns() / 1e9
