"""`python -m scripts.docs_handover`: docs/handover.md, from hand-over's and recovery's tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pageferry.common import handover, recovery
from pageferry.common.handover import Role, State

PAGE = Path(__file__).resolve().parents[1] / "docs/handover.md"

INTRODUCTION = """\
# The hand-over, as a table

<!-- Made by `python -m scripts.docs_handover` from common/handover.py and common/recovery.py. -->

At any moment at most one end may run the guest. Which one is decided by two state machines, one at
each end; each is a literal table in `common/handover.py`, whose rules stand above it, and the
diagrams below are drawn from these tables. States carry QEMU's names where QEMU has them. Where a
state's name is followed by *runs*, that end may run the guest.

An arrow's words are the events of `handover.Event`: what an end does (it takes the step before it
acts), or what its peer has said. Whatever is not drawn is illegal, raises an error, and leaves the
state as it was. Events that change nothing are left out.
"""

RECOVERY = """\
## Recovery of post-copy, at both ends

A broken connection pauses the migration, not the hand-over: the source connects again, each attempt
with the next number, and only the newest one counts. An outage is over once the new connections
have been shown to work, end to end; its limit (`--recover-timeout`) counts from its beginning.
"""

_S = TypeVar("_S", bound=StrEnum)


def diagram(table: Mapping[_S, Mapping[Any, _S]], first: _S, runs: Collection[_S] = ()) -> str:
    """Return a Mermaid state diagram of what can be reached from `first`."""
    lines = ["```mermaid", "stateDiagram-v2", "    direction TB"]
    reachable = _reachable(table, first)
    states = [state for state in table if state in reachable]
    for state in states:
        words = f"{state} (runs)" if state in runs else str(state)
        lines.append(f'    state "{words}" as {_name(state)}')
    lines.append(f"    [*] --> {_name(first)}")
    for state in states:
        for target, events in _arrows(table[state], state).items():
            lines.append(f"    {_name(state)} --> {_name(target)}: {', '.join(events)}")
    ends = [state for state in states if not _arrows(table[state], state)]
    lines += [f"    {_name(state)} --> [*]" for state in ends]
    return "\n".join([*lines, "```", ""])


def _name(state: StrEnum) -> str:
    return state.value.replace("-", "_").replace(" ", "_")


def _arrows(events: Mapping[StrEnum, _S], state: _S) -> dict[_S, list[str]]:
    """By target; those that stay where they are change nothing."""
    found: dict[_S, list[str]] = {}
    for event, target in events.items():
        if target is not state:
            found.setdefault(target, []).append(event.value.replace("_", " "))
    return found


def _reachable(table: Mapping[_S, Mapping[Any, _S]], first: _S) -> set[_S]:
    seen, waiting = {first}, [first]
    while waiting:
        for target in table[waiting.pop()].values():
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return seen


def _of(role: Role) -> dict[State, dict[handover.Event, State]]:
    return {state: events for (end, state), events in handover.TABLE.items() if end is role}


def page() -> str:
    """All of it."""
    source = diagram(_of(Role.SOURCE), State.NONE, handover.MAY_RUN[Role.SOURCE])
    dest = diagram(_of(Role.DEST), State.NONE, handover.MAY_RUN[Role.DEST])
    phases = diagram(recovery.TABLE, recovery.RecoveryPhase.WHOLE)
    parts = (INTRODUCTION, f"## The source\n\n{source}", f"## The destination\n\n{dest}")
    return "\n".join((*parts, f"{RECOVERY}\n{phases}"))


def main() -> None:
    """Write it."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
