from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pageferry.commands.inject import points_document
from pageferry.common.config.model import MigrationConfig, explain
from pageferry.common.errors import UsageError
from pageferry.common.inject import (
    ACTIONS,
    POINTS,
    Action,
    FaultPlan,
    Injection,
    for_agent,
    only_for,
    parse_injection,
)

DOCS = Path(__file__).parents[3] / "docs" / "faults.md"


@pytest.mark.parametrize(
    ("text", "injection"),
    [
        ("after-round-1:kill", Injection("source", "after-round-1", Action.KILL)),
        ("after-round-12:cut", Injection("source", "after-round-12", Action.CUT)),
        ("before-commit:cut:20", Injection("source", "before-commit", Action.CUT, 20)),
        ("ready:stall:300ms", Injection("dest", "ready", Action.STALL, 0.3)),
        ("paused:slow:8mbit", Injection("source", "paused", Action.SLOW, 1e6)),
        ("dest/postcopy-50%:cut:1KiB", Injection("dest", "postcopy-50%", Action.CUT, 1024)),
        ("source/postcopy-0%:corrupt", Injection("source", "postcopy-0%", Action.CORRUPT)),
        ("postcopy-50%:cut", Injection("source", "postcopy-50%", Action.CUT)),
        ("postcopy-5%:corrupt:1", Injection("source", "postcopy-5%", Action.CORRUPT, 1)),
        ("set-up:corrupt:4096", Injection("source", "set-up", Action.CORRUPT, 4096)),
    ],
)
def test_an_injection_parses_and_is_written_the_same(text: str, injection: Injection) -> None:
    assert parse_injection(text) == injection
    assert parse_injection(str(injection)) == injection


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a point: expected one of source/connected"),
        ("paused", "is not an action: expected one of kill, stall:TIME"),
        ("paused:explode", "'explode' is not an action: expected one of kill"),
        ("after-round-:kill", "is not a point"),
        ("after-round-x:kill", "is not a point"),
        ("after-round-N:kill", "is not a point"),
        ("round-1:kill", "is not a point: expected one of"),
        ("dest/paused:kill", "'dest/paused' is not a point"),
        ("elsewhere/paused:kill", "'elsewhere' is not an agent: expected source or dest"),
        ("postcopy-50%:kill", "both agents have postcopy-50%: write source/postcopy-50% or dest/"),
        ("recovering:cut", "both agents have recovering"),
        ("paused:kill:1", "expected kill"),
        ("paused:stall", "expected stall:TIME"),
        ("paused:stall:", "expected stall:TIME"),
        ("paused:stall:5", "'5' is not a time"),
        ("paused:slow:fast", "is not a rate"),
        ("paused:cut:", "expected cut[:SIZE]"),
        ("paused:cut:-1", "is not a size"),
        ("ready:corrupt", "corrupt is done by the source"),
    ],
)
def test_what_is_not_is_said_in_one_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        parse_injection(text)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValidationError) as refused:
        MigrationConfig(inject=(text,))
    assert explain(refused.value).startswith("--inject: ")


@given(text=st.text(max_size=40))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        injection = parse_injection(text)
    except ValueError:
        return
    assert parse_injection(str(injection)) == injection


def test_each_fault_is_due_once_and_only_at_its_point() -> None:
    texts = ("paused:cut", "paused:stall:1s", "after-round-2:kill", "dest/postcopy-40%:cut")
    plan = FaultPlan([parse_injection(text) for text in texts])
    assert plan.shares() == [40]
    assert plan.due("after-round-1") == []
    assert [each.action for each in plan.due("paused")] == [Action.CUT, Action.STALL]
    assert plan.due("paused") == []
    assert [each.action for each in plan.due("after-round-2")] == [Action.KILL]
    assert len(plan.due("postcopy-40%")) == 1
    assert plan.shares() == []


def test_whose_point_it_is() -> None:
    texts = ("paused:cut", "hello:kill", "dest/recovering:cut")
    faults = [parse_injection(text) for text in texts]
    assert for_agent("source", faults) == ("source/paused:cut",)
    assert for_agent("dest", faults) == ("dest/hello:kill", "dest/recovering:cut")
    only_for("dest", faults[1:])
    with pytest.raises(UsageError, match="paused:cut is a point of the source"):
        only_for("dest", faults)


def test_the_flags_give_every_fault_again() -> None:
    config = MigrationConfig(inject=("paused:cut:0", "hello:stall:2s"), stall_timeout=2.0)
    assert config.flags() == [
        *("--stall-timeout", "2s"),
        *("--inject", "source/paused:cut:0B", "--inject", "dest/hello:stall:2s"),
    ]


def test_names_are_told_apart() -> None:
    assert len({(point.agent, point.pattern) for point in POINTS}) == len(POINTS)
    assert set(ACTIONS) == set(Action)
    json.dumps(points_document())


def rows(text: str, columns: int) -> list[tuple[str, ...]]:
    """Of the tables of so many columns, without their heads; code marks taken off."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == columns and not set(line) <= set("|- "):
            found.append(tuple(cells))
    return found


def test_the_documentation_has_the_same_list() -> None:
    points, _, actions = DOCS.read_text().partition("## Actions")
    assert rows(points, 3)[1:] == [(p.agent, p.pattern, p.meaning) for p in POINTS]
    assert rows(actions.partition("\n## ")[0], 2)[1:] == [
        (each.usage, each.meaning + (f" ({each.only} only)" if each.only else ""))
        for each in ACTIONS.values()
    ]
