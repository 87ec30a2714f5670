"""`pageferry inject list`, and `--inject` on the three commands that take it."""

from __future__ import annotations

import json

import pytest

from pageferry.cli import make_app
from pageferry.common.command_line.run import run_app
from pageferry.common.config.model import MigrationConfig
from pageferry.common.inject import ACTIONS, POINTS


def test_the_list_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(make_app(), ["inject", "list"]) == 0
    out = capsys.readouterr().out
    for point in POINTS:
        assert point.pattern in out
    for each in ACTIONS.values():
        assert each.usage in out
    assert "[AGENT/]POINT:ACTION" in out


def test_the_list_for_programs(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_app(make_app(), ["inject", "list", "--json", "-"]) == 0
    listed = json.loads(capfd.readouterr().out)
    assert [(each["agent"], each["point"]) for each in listed["points"]] == [
        (point.agent, point.pattern) for point in POINTS
    ]
    assert [each["action"] for each in listed["actions"]] == [a.usage for a in ACTIONS.values()]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["source", "--to", "127.0.0.1:1", "--inject", "hello:kill"], "is a point of the dest"),
        (["dest", "--listen", "127.0.0.1:0", "--inject", "paused:cut"], "is a point of the source"),
        (["migrate", "--inject", "paused:explode"], "expected one of kill, stall:TIME"),
        (["migrate", "--inject", "nowhere:kill"], "expected one of source/connected"),
        (["dest", "--listen", "127.0.0.1:0", "--inject", "x"], "'x' is not a point"),
        (["migrate", "--stall-timeout", "10ms"], "--stall-timeout"),
        (["migrate", "--timeout", "0s"], "--timeout"),
        (["migrate", "--timeout-action", "pray"], "--timeout-action"),
    ],
)
def test_bad_usage_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(make_app(), arguments) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert err.startswith("pageferry: ")


def test_a_switch_at_the_time_limit_is_set_up_from_the_start() -> None:
    config = MigrationConfig(strategy="pre-copy", timeout=5.0, timeout_action="post-copy")
    assert config.may_switch
    assert not config.model_copy(update={"timeout": None}).may_switch
    assert not config.model_copy(update={"timeout_action": "cancel"}).may_switch
    assert MigrationConfig.model_validate(config.model_dump()) == config
