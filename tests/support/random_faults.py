"""Running one case of the matrix of random faults, and what is seen of it from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.file_agent import Agent
from tests.support.random_cases import STALL_S, Case
from tests.support.random_logs import EVER, Logs
from tests.support.wires import Wire, Wires
from tests.support.witness import Witness

LOOK_S: Final = 0.003
WITNESS_S: Final = 0.004
REST_S: Final = 3.0  # what is left of a migration when all goes on, on a busy machine
GRACE_S: Final = 5.0  # by which nobody may outlive the limit
START_S: Final = 30.0
BETWEEN_S: Final = 0.1  # from one signal to the next


@dataclass
class Done:
    """The fault. Times are CLOCK_MONOTONIC in ns.

    began_ns, ended_ns: when it was done, as exactly as it is known. over_ns: when its last part
    was: the process goes on, or the network is back, or the last signal was sent. effective:
    whether there was something to be done to.
    """

    began_ns: int
    ended_ns: int
    over_ns: int
    effective: bool = True


@dataclass
class Seen:
    """What was seen of a case. lag_s: the longest time that this process did not get to look.

    late: who had to be killed. cut_ns: when the recovery's outage began.
    """

    logs: Logs
    witness: Witness
    done: Done | None = None
    cut_ns: int = 0
    source_code: int | None = None
    dest_code: int | None = None
    dest_ended_itself: bool = False
    late: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    lag_s: float = 0.0


class Running:
    """A case that is under way."""

    def __init__(self, case: Case, folder: Path, wires: Wires) -> None:
        self.case = case
        self._folder = folder
        self._wires = wires
        self._wire: Wire | None = None
        self._agents: dict[str, Agent] = {}
        source, dest = folder / "source.witness", folder / "dest.witness"
        self.seen = Seen(Logs.of(folder), Witness(source, dest, every_s=WITNESS_S))

    def run(self) -> Seen:
        """To its end, with nothing left behind."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.seen.witness.close)
            stack.callback(self._kill_all)
            self._start(stack)
            if self._aim():
                self.seen.done = self._do()
            self._wait_for_ends()
        self.seen.logs.look()
        for name, agent in self._agents.items():
            if group_lives(agent):
                self.seen.left.append(f"processes of the {name}")
        return self.seen

    # -- its beginning ----------------------------------------------------------------------------

    def _start(self, stack: contextlib.ExitStack) -> None:
        stall = ("--stall-timeout", f"{STALL_S:g}s", "--log-dir", str(self._folder))
        witness = "--witness", str(self._folder / "dest.witness")
        dest = self._agent("dest", "--listen", "127.0.0.1:0", "--quiet", *stall, *witness)
        port = int(dest.wait_status("listening")["port"])
        if self.case.cell.through_wire:
            self._wire = stack.enter_context(self._wires.to(port))
            port = self._wire.port
        options = "--to", f"127.0.0.1:{port}", "--quiet", "--log-dir", str(self._folder)
        witness = "--witness", str(self._folder / "source.witness")
        self._agent("source", *options, *witness, *self.case.config.flags())

    def _agent(self, name: str, *options: str) -> Agent:
        agent = self._agents[name] = Agent(self._folder, name, name, *options)
        return agent

    def _kill_all(self) -> None:
        for agent in self._agents.values():
            agent.kill()

    # -- the fault --------------------------------------------------------------------------------

    def _aim(self) -> bool:
        """Wait for the moment; false: it never came."""
        case, logs = self.case, self.seen.logs
        if case.delay_s:
            if not self._comes(lambda: logs.source.said("warming up", "round 1") < EVER):
                return False
            self._live_wire().delay(case.delay_s)
        if not self._comes(lambda: logs.begun(case)):
            return False
        if case.outage is not None:
            self._sleep(case.outage.after_s)
            self._live_wire().refuse(case.outage.refused_s > 0)
            self._live_wire().delay(case.outage.delay_s)
            self.seen.cut_ns = self._live_wire().reset()[0]
        self._sleep(case.at_s)
        return self._agents["source"].exit_code is None

    def _do(self) -> Done:
        """The fault, to its last part."""
        case = self.case
        whom = self._agents.get(case.cell.hit)
        if case.cell.fault == "cut":
            began, ended, ends = self._live_wire().reset()
            done = Done(began, ended, ended, effective=ends > 0)
        elif case.cell.fault == "silence":
            began, ended = self._live_wire().hold()
            self._sleep(case.lasts_s)
            done = Done(began, ended, self._live_wire().release())
        else:
            assert whom is not None
            done = self._signal(whom)
        if self._wire is not None:
            self._wire.delay(0.0)
            self._end_outage()
        return done

    def _signal(self, whom: Agent) -> Done:
        case = self.case
        if case.cell.fault == "ask":
            began, ended = _send(whom, case.signals[0])
            over = ended
            for number in case.signals[1:]:
                self._sleep(BETWEEN_S)
                over = _send(whom, number)[1]
            return Done(began, ended, over)
        if case.cell.fault == "kill":
            began, _ = _send(whom, signal.SIGKILL)
            self._until(lambda: whom.exit_code is not None, GRACE_S)  # a busy kernel takes a while
            ended = time.monotonic_ns()
            return Done(began, ended, ended)
        began, ended = _send(whom, signal.SIGSTOP)
        self._sleep(case.lasts_s)
        return Done(began, ended, _send(whom, signal.SIGCONT)[1])

    def _end_outage(self) -> None:
        """New connections are let in when the time has come."""
        outage = self.case.outage
        if outage is None or not outage.refused_s or self.case.ends_recovery:
            return
        since_s = (time.monotonic_ns() - self.seen.cut_ns) / 1e9
        self._sleep(max(outage.refused_s - since_s, 0.0))
        self._live_wire().refuse(False)

    # -- its end ----------------------------------------------------------------------------------

    def _wait_for_ends(self) -> None:
        """Of both agents; who outlives the limit is killed, and that is noted."""
        source, dest = self._agents["source"], self._agents["dest"]
        first, second = ("dest", "source") if self.case.cell.hit == "dest" else ("source", "dest")
        if self.case.ends_recovery and self.seen.done is not None:
            self._wait(first, GRACE_S)
            for number in (signal.SIGTERM, signal.SIGTERM):
                _send(self._agents[second], number)
                self._sleep(BETWEEN_S)
            self._wait(second, GRACE_S)
        else:
            self._wait("source", self._limit_s() + GRACE_S)
            over = self._until(self._dest_is_over, self._limit_s() + GRACE_S)
            if not over:
                self.seen.late.append("the destination's session")
        self.seen.dest_ended_itself = dest.exit_code is not None
        if not self.seen.dest_ended_itself:
            _send(dest, signal.SIGTERM)
            self._wait("dest", GRACE_S)
        self.seen.source_code, self.seen.dest_code = source.exit_code, dest.exit_code

    def _dest_is_over(self) -> bool:
        return self._agents["dest"].exit_code is not None or self.seen.logs.session_over

    def _limit_s(self) -> float:
        """After the last part of the fault, of either agent."""
        if self.seen.done is None:
            return START_S
        before_commit = self.case.cell.phase in ("set-up", "rounds", "stop")
        return STALL_S + REST_S + (0.0 if before_commit else self.case.recover_s)

    def _wait(self, name: str, seconds: float) -> None:
        agent = self._agents[name]
        if not self._until(lambda: agent.exit_code is not None, seconds):
            self.seen.late.append(f"the {name}")
            agent.kill()

    # -- time -------------------------------------------------------------------------------------

    def _comes(self, come: Callable[[], bool]) -> bool:
        """Look until it has come; false: the source has ended before, or nothing happens."""
        source = self._agents["source"]
        self._until(lambda: come() or source.exit_code is not None, START_S)
        return come()

    def _until(self, come: Callable[[], bool], seconds: float) -> bool:
        """Look until it has come; false: not in that time."""
        deadline = time.monotonic() + seconds
        while not come():
            if time.monotonic() > deadline:
                return False
            self._sleep(LOOK_S)
            self.seen.logs.look()
        return True

    def _sleep(self, seconds: float) -> None:
        before = time.monotonic()
        time.sleep(seconds)
        self.seen.lag_s = max(self.seen.lag_s, time.monotonic() - before - seconds)

    def _live_wire(self) -> Wire:
        assert self._wire is not None
        return self._wire


def _send(whom: Agent, number: int) -> tuple[int, int]:
    """From when to when it was sent, in ns; nothing is done to one that has ended."""
    began = time.monotonic_ns()
    if whom.exit_code is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(whom.process.pid, number)
    return began, time.monotonic_ns()


def group_lives(agent: Agent) -> bool:
    """Whether a process of an agent's group is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(agent.process.pid, 0)
        return True
    return False
