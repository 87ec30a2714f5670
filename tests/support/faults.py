"""Running one case of the matrix of failures, and what is seen of it from outside."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pageferry.common.config.model import MigrationConfig
from pageferry.common.guest.machine import Guest
from pageferry.common.inject import Action, parse_injection
from pageferry.common.report.schema import Report
from tests.support.fault_rules import DEST, KILLED, NOBODY, SOURCE, STALL_S, Case, Ending
from tests.support.file_agent import Agent
from tests.support.harness import neglected
from tests.support.witness import Witness

END_S: Final = 60.0


# -- running it -----------------------------------------------------------------------------------


@dataclass
class Seen:
    """What was seen of a case."""

    exit_code: int
    runs: str
    turns: str
    report: Report | None
    dest_alive: bool
    problems: list[str] = field(default_factory=list)

    @property
    def ending(self) -> Ending:
        return Ending(self.exit_code, self.runs)


def run(case: Case, folder: Path) -> Seen:
    """Run it to its end, with nothing left behind."""
    source_file, dest_file = folder / "source.witness", folder / "dest.witness"
    witness = Witness(source_file, dest_file)
    agents: list[Agent] = []
    try:
        dest = _start_dest(folder, "dest", dest_file, "127.0.0.1:0", case.faults)
        agents.append(dest)
        where = dest.wait_status("listening")
        address = f"{where['host']}:{where['port']}"
        options = ["--to", address, "--quiet", "--log-dir", str(folder)]
        options += ["--witness", str(source_file), *case.config.flags()]
        source = Agent(folder, "source", "source", *options)
        agents.append(source)
        if case.restart:
            dest.end(END_S)
            again = folder / "again.witness"
            agents.append(_start_dest(folder, "again", again, address, ()))
        exit_code = source.end(END_S)
        _wait_for_the_end(folder, dest)
        dest_alive = dest.exit_code is None
        for agent in agents:
            agent.terminate()
    finally:
        for agent in agents:
            agent.kill()
        witness.close()
    said = source.status("report")
    report = Report.model_validate(said) if said else None
    seen = Seen(exit_code, NOBODY, witness.turns(), report, dest_alive)
    _judge(case, folder, witness, seen)
    seen.problems += leftovers(folder)
    return seen


def _start_dest(
    folder: Path, name: str, witness: Path, listen: str, faults: tuple[str, ...]
) -> Agent:
    options = ["--listen", listen, "--log-dir", str(folder), "--witness", str(witness)]
    options += ["--stall-timeout", f"{STALL_S:g}s"]
    for fault in faults:
        if parse_injection(fault).agent == "dest":
            options += ["--inject", fault]
    return Agent(folder, name, "dest", *options)


def _wait_for_the_end(folder: Path, dest: Agent) -> None:
    """Until the destination has seen its session end, or is dead."""
    deadline = time.monotonic() + END_S
    while dest.exit_code is None:
        lines = [str(line.get("say", "")) for line in events(folder, "dest")]
        if any(": done" in line or ": ended: " in line for line in lines):
            return
        assert time.monotonic() < deadline, lines
        time.sleep(0.01)


def events(folder: Path, agent: str) -> list[dict[str, Any]]:
    """Its log so far."""
    path = folder / f"{agent}.log"
    lines = path.read_text().splitlines() if path.exists() else []
    out = []
    for line in lines:
        with contextlib.suppress(ValueError):  # the last one of a process that was killed
            out.append(json.loads(line))
    return out


def leftovers(folder: Path) -> list[str]:
    """What no agent may leave, however it ended."""
    ours = {".log", ".out", ".err", ".status", ".witness"}
    problems = [f"{path.name} was left" for path in folder.iterdir() if path.suffix not in ours]
    if (folder / "again.witness").exists():
        problems.append("a destination that was started again has made a guest")
    for path in folder.glob("*.err"):
        if "Traceback" in (text := path.read_text()) or neglected(text):
            problems.append(f"a traceback in {path.name}: {text[-2000:]}")
    return problems


def _find(log: list[dict[str, Any]], event: str) -> dict[str, Any] | None:
    found = [entry for entry in log if entry.get("event") == event]
    return found[-1] if found else None


def _judge(case: Case, folder: Path, witness: Witness, seen: Seen) -> None:
    """Who runs the guest, whether there were ever two, and whether it is the guest that it was."""
    source_log, dest_log = events(folder, "source"), events(folder, "dest")
    faults = [e for e in (*source_log, *dest_log) if e.get("event") == "injected"]
    expected_faults = {str(parse_injection(fault)) for fault in case.faults}
    if seen.exit_code == KILLED:  # its log died with it
        expected_faults -= {str(f) for f in map(parse_injection, case.faults) if f.agent == SOURCE}
    missed = expected_faults - {entry["fault"] for entry in faults}
    if missed:
        seen.problems.append(f"never injected: {missed}")
    if "SDSD" in seen.turns or seen.turns.startswith("D"):
        seen.problems.append(f"two guests ran at the same time: {seen.turns}")
    since = max((entry["t_ns"] for entry in faults), default=0)
    source, dest = witness.source.beats, witness.dest.beats
    back = seen.turns.endswith("S") and bool(source) and source[-1] > since
    if back and dest and (seen.dest_alive or source[-1] < dest[-1]):
        seen.problems.append("the source goes on although the destination has run the guest")
    if back and seen.exit_code != KILLED and (stopped := _find(source_log, "guest-stopped")):
        seen.runs = SOURCE
        _compare(case, seen, stopped, _find(source_log, "digested"))
    elif dest and (stopped := _find(dest_log, "guest-stopped")):
        died_with_it = case.last.agent == DEST and case.last.action is Action.KILL
        seen.runs = NOBODY if died_with_it else DEST
        if seen.report is None or seen.report.verified is not False:
            _compare(case, seen, stopped, _find(dest_log, "digested"))
    claimed = seen.report.guest.runs_at if seen.report else None
    if claimed in (SOURCE, DEST) and seen.runs not in (NOBODY, claimed):
        seen.problems.append(f"the source says that the {claimed} runs it")


def _compare(
    case: Case, seen: Seen, stopped: dict[str, Any], digested: dict[str, Any] | None
) -> None:
    """A guest that was never moved, at the same step, must be the same: no write is lost."""
    report = seen.report
    if report is not None and report.postcopy and report.postcopy.pages_never_moved:
        if report.verified is not True:
            seen.problems.append("a lazy copy that was not verified")
        return
    if digested is None:
        seen.problems.append("no digest")
    elif case.strategy == "lazy-copy" and seen.runs != SOURCE:
        return  # it has some of its pages only; what they hold is the replay's to say
    elif digested["digest"] != never_moved(case.config, stopped["steps"]):
        seen.problems.append(f"lost writes: not the guest that it would have been at {stopped}")


def never_moved(config: MigrationConfig, steps: list[int]) -> str:
    """The digest of this guest at those steps, if nothing had ever happened to it."""
    guest = Guest(config.guest, boot=True)
    try:
        guest.start()
        guest.run_until(steps)
        guest.drain()
        return guest.digest()
    finally:
        guest.close()
