"""What `migrate` says of injected faults that did not happen."""

from __future__ import annotations

from pageferry.common.inject import parse_injection
from pageferry.common.report.schema import EventReport
from pageferry.runs.migration import unreached
from tests.support.plain_reports import report

FAULTS = tuple(
    map(parse_injection, ("source/paused:kill", "dest/finished:cut", "dest/ready:stall:1s"))
)


def happened(*events: tuple[str, str | None]) -> list[EventReport]:
    return [
        EventReport.model_validate(
            {"t_ms": 0.0, "agent": agent, "event": "injected" if fault else "ready", "fault": fault}
        )
        for agent, fault in events
    ]


def test_what_neither_end_has_seen_is_named() -> None:
    events = happened(("source", FAULTS[0]), ("dest", None))
    assert unreached(FAULTS, report(events=events)) == [*FAULTS[1:]]


def test_of_a_destination_whose_result_never_came_nothing_is_known() -> None:
    assert unreached(FAULTS, report(events=happened(("source", None)))) == [FAULTS[0]]
