"""What the judge of random faults says of logs and heartbeats that are made up."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.fault_rules import (
    DEST,
    DIED,
    LOST,
    MOVED,
    NOBODY,
    OUTLIVED,
    SOURCE,
    STAYS,
    UNVERIFIED,
    Ending,
)
from tests.support.file_agent import Agent
from tests.support.random_cases import BY_NAME, Case, case_of
from tests.support.random_faults import Done, Seen, group_lives
from tests.support.random_logs import Logs
from tests.support.random_rules import allowed, contradictions, dest_codes
from tests.support.random_verdicts import against_rules, two_guests
from tests.support.witness import Witness

MS = 1_000_000


def drawn(name: str, **wanted: Any) -> Case:
    """The first case of that cell that was drawn so."""
    cases = (case_of(BY_NAME[name], seed) for seed in range(200))
    return next(c for c in cases if all(getattr(c, key) == value for key, value in wanted.items()))


def seen_of(folder: Path, source: dict[str, int], dest: dict[str, int]) -> Seen:
    """Logs with these events at these times in ms, and no beats."""
    for name, events in (("source", source), ("dest", dest)):
        lines = [json.dumps({"t_ns": t * MS, "event": event}) for event, t in events.items()]
        (folder / f"{name}.log").write_text("".join(line + "\n" for line in lines))
    witness = Witness(folder / "source.witness", folder / "dest.witness")
    witness.close()
    seen = Seen(Logs.of(folder), witness)
    seen.logs.look()
    return seen


@pytest.mark.parametrize(
    ("source", "dest", "found"),
    [
        ([1, 3], [5, 7], ""),
        ([1, 3, 9], [5, 7], "one that came back"),
        ([1, 6], [5, 7], "one that came back"),
        ([], [5, 7], "one that came back"),
    ],
    ids=["moved", "back", "both", "from nowhere"],
)
def testtwo_guests_are_seen(source: list[int], dest: list[int], found: str, tmp_path: Path) -> None:
    seen = seen_of(tmp_path, {}, {})
    seen.witness.source.beats, seen.witness.dest.beats = source, dest
    problems = two_guests(seen, MOVED)
    assert found in str(problems)
    assert bool(problems) == bool(found)


def test_a_source_that_goes_on_beside_a_destination_that_ran_is_seen(tmp_path: Path) -> None:
    seen = seen_of(tmp_path, {}, {"commit-received": 1, "resumed": 2})
    seen.witness.dest.beats = [3]
    assert two_guests(seen, STAYS)
    case = drawn("hand-over/pre-copy/cut/wire")
    assert contradictions(case, seen, STAYS)
    assert contradictions(case, seen, MOVED) == []


def test_a_destination_that_lacks_pages_has_not_run_the_guest_whole(tmp_path: Path) -> None:
    there = {"commit-received": 1, "resumed": 2}
    case = drawn("post-copy/hybrid/kill/source")
    assert contradictions(case, seen_of(tmp_path, {}, there), OUTLIVED)
    assert contradictions(case, seen_of(tmp_path, {}, there), DIED) == []
    whole = seen_of(tmp_path, {}, there | {"all-pages-present": 3})
    assert contradictions(case, whole, OUTLIVED) == []
    assert contradictions(case, whole, DIED)


def test_a_fault_counts_only_within_its_phase(tmp_path: Path) -> None:
    events = {"connect": 0, "round-start": 100, "pause-requested": 300, "commit-sent": 400}
    logs = seen_of(tmp_path, events, {}).logs
    rounds = drawn("rounds/pre-copy/cut/wire")
    assert logs.hit(rounds, 150 * MS, 151 * MS, 0.0)
    assert not logs.hit(rounds, 99 * MS, 101 * MS, 0.0)
    assert not logs.hit(rounds, 150 * MS, 280 * MS, 0.0)  # it may be acted on in the stop
    assert not logs.hit(rounds, 150 * MS, 151 * MS, 0.2)
    assert logs.hit(drawn("stop/pre-copy/cut/wire"), 310 * MS, 311 * MS, 0.0)


def test_a_signal_that_cancels_too_late_is_seen(tmp_path: Path) -> None:
    case = drawn("post-copy/post-copy/ask/source", signals=(signal.SIGTERM, signal.SIGTERM))
    there = {"commit-received": 1, "resumed": 2, "all-pages-present": 3}
    seen = seen_of(tmp_path, {"connect": 0, "completed": 200}, there)
    seen.done = Done(50 * MS, 50 * MS, 150 * MS)
    assert contradictions(case, seen, UNVERIFIED) == ["cancelled when it was too late"]
    seen.done = Done(50 * MS, 50 * MS, 250 * MS)
    assert contradictions(case, seen, UNVERIFIED) == []


def test_a_killed_source_is_judged_by_what_it_had_said(tmp_path: Path) -> None:
    case = drawn("hand-over/pre-copy/kill/source")
    logs = seen_of(tmp_path, {}, {"commit-received": 500}).logs
    logs.source.entries.append({"t_ns": 300 * MS, "say": "handing over"})
    assert logs.hit(case, 350 * MS, 351 * MS, 0.0)
    assert not logs.hit(case, 250 * MS, 251 * MS, 0.0)
    assert not logs.hit(drawn("stop/pre-copy/kill/source"), 350 * MS, 351 * MS, 0.0)


def test_what_is_allowed_follows_from_the_protocol() -> None:
    assert allowed(drawn("rounds/pre-copy/stop/dest", long=False), 0) == {MOVED}
    assert allowed(drawn("rounds/pre-copy/stop/dest", long=True), 0) == {STAYS}
    still = drawn("stop/three-path/stop/dest", long=True)
    assert allowed(still, 0) == {STAYS}
    assert allowed(still, 0, committed=True) == {STAYS, MOVED, UNVERIFIED}
    cut = drawn("stop/three-path/cut/wire")
    assert allowed(cut, 0, committed=True) == {STAYS}
    assert allowed(drawn("stop/three-path/ask/source"), 0) == {Ending(130, SOURCE)}
    once = drawn("post-copy/post-copy/ask/source", signals=(signal.SIGTERM,))
    assert allowed(once, 0) == {MOVED}
    waits = drawn("recovery/post-copy/silence/wire", long=True)
    assert allowed(waits, waits.recover_s - 1) == {MOVED}
    assert MOVED not in allowed(waits, waits.recover_s + 1)
    insists = drawn("recovery/post-copy/ask/dest", ends_recovery=True)
    assert allowed(insists, 0) == {LOST, Ending(4, DEST)}


def test_a_hangup_is_never_a_second_signal() -> None:
    for seed in range(200):
        case = case_of(BY_NAME["recovery/hybrid/ask/source"], seed)
        assert case.ends_recovery == any(n == signal.SIGTERM for n in case.signals[1:])


def test_a_wrong_exit_code_is_seen(tmp_path: Path) -> None:
    case = drawn("rounds/pre-copy/ask/dest")
    seen = seen_of(tmp_path, {"connect": 0}, {"ready": 1})
    seen.done = Done(0, 0, 0)
    seen.source_code, seen.dest_code = 1, 0
    assert dest_codes(case, seen) == {130}
    assert against_rules(case, seen, STAYS, None) == [
        "the destination's exit code is 0, allowed {130}"
    ]
    seen.dest_code = 130
    assert against_rules(case, seen, STAYS, None) == []
    assert against_rules(case, seen, Ending(0, NOBODY), None) != []


def test_processes_that_are_left_are_seen(tmp_path: Path) -> None:
    agent = Agent(tmp_path, "dest", "dest", "--listen", "127.0.0.1:0", "--quiet")
    try:
        agent.wait_status("listening")
        assert group_lives(agent)
    finally:
        agent.kill()
    assert agent.exit_code is not None
    assert not group_lives(agent)
