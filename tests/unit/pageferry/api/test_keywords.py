"""Keywords that are wrong: said at once, in the command's words, before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pageferry
from pageferry import UsageError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memroy": 1}, "memroy: unknown option; did you mean memory?"),
        ({"memory": "3 potatoes"}, "--memory: '3 potatoes' is not a size"),
        ({"max_bandwidth": "10gbps"}, "--max-bandwidth: "),
        ({"strategy": "precopy"}, "--strategy: .*did you mean pre-copy"),
        ({"downtime_limit": -1}, "--downtime-limit: "),
        ({"low": 0.6, "high": 0.5}, "--low 60% is above --high 50%"),
        ({"net": "rate=fast", "link": "relay"}, "rate"),
        ({"shaper": "tc"}, "--shaper means nothing without --net"),
        ({"tls_hostname": "a"}, "needs --tls"),
        ({"tls": "/nowhere"}, "/nowhere"),
        ({"log_dir": "/dev/null"}, "--log-dir"),
    ],
)
def test_wrong_keywords_of_migrate_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        pageferry.migrate(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategies": ["pre-copy", "x"]}, "--strategy"),
        ({"strategies": "pre-copy", "strategy": "hybrid"}, "the same option"),
        ({"strategies": ["pre-copy", "pre-copy"]}, "is given twice"),
        ({"cache": [0, "x"]}, "--cache"),
        ({"runs": 0}, "--runs"),
        ({"tls": "keys"}, "tls: unknown option"),
    ],
)
def test_wrong_keywords_of_compare_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        pageferry.compare(**options)


def test_wrong_keywords_of_the_other_functions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="predict: unknown option"):
        pageferry.predict(predict=True)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="--measure"):
        pageferry.predict(measure=0)
    with pytest.raises(UsageError, match="--inject"):
        pageferry.simulate(inject=["source/paused:cut"])
    with pytest.raises(UsageError, match="--link"):
        pageferry.simulate(link="rate=fast")
    with pytest.raises(UsageError, match=r"plan\.toml"):
        pageferry.sweep(tmp_path / "plan.toml")


def test_a_limit_that_would_be_missed_is_raised_where_it_is_enforced() -> None:
    options: dict[str, Any] = {"strategy": "stop-and-copy", "downtime_limit": "1ms"}
    said: list[str | None] = []
    report = pageferry.simulate(**options, on_status=lambda status: said.append(status.notice))
    assert report.limits_missed
    assert any("does not look at --downtime-limit" in (line or "") for line in said)
    with pytest.raises(pageferry.MigrationError, match="would be missed") as raised:
        pageferry.simulate(**options, enforce=True)
    assert raised.value.exit_code == 5
    assert raised.value.report is not None


def test_a_simulation_says_which_command_would_make_it() -> None:
    report = pageferry.simulate(memory="1TiB", link="rate=100gbit,delay=50us")
    assert report.command == ("pageferry simulate --memory 1TiB --link rate=100gbit,delay=50us")
