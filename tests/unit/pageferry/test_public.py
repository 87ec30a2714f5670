"""`import pageferry`: what it promises, when it is loaded, and what a type checker knows of it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import pageferry
from pageferry import aio
from scripts import api_options
from tests.support.known_types import copy_known_types
from tests.support.tiers import FULL

PROJECT = Path(__file__).parents[3]


def test_every_promised_name_is_there() -> None:
    for name in pageferry.__all__:
        assert getattr(pageferry, name) is not None
        assert name in dir(pageferry)
    with pytest.raises(AttributeError, match="has no attribute 'migrat'"):
        _ = pageferry.migrat  # type: ignore[attr-defined]


def test_a_checker_is_told_of_every_promised_name() -> None:
    text = inspect.getsource(pageferry)
    told = text[text.index("\nif TYPE_CHECKING:") : text.index("\n__all__")]
    for name in pageferry.__all__:
        assert name == "__version__" or f"import {name} as {name}\n" in told, name


def test_coroutines_have_the_signatures_of_the_functions() -> None:
    for name in aio.__all__:
        ours, theirs = getattr(aio, name), getattr(pageferry, name)
        assert inspect.iscoroutinefunction(ours)
        assert inspect.signature(ours) == inspect.signature(theirs)


@pytest.mark.parametrize("name", ["", "UsageError", "__all__", "__version__"])
def test_what_is_light_loads_nothing_heavy(name: str) -> None:
    code = f"import sys, pageferry; {name and f'pageferry.{name};'}"
    code += "print({'numpy', 'numba', 'pydantic', 'rich'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_the_keywords_are_those_of_the_command_line() -> None:
    wanted = "python -m scripts.api_options"
    assert api_options.FILE.read_text() == api_options.make(), wanted


RIGHT = """
import os
import pageferry
from pathlib import Path

def told(status: pageferry.Status) -> None: ...

report: pageferry.Report = pageferry.migrate(
    memory="16MiB", max_bandwidth=1e8, strategy="pre-copy", timeout=None, on_status=told,
    verify=False, inject=["source/paused:cut"], net="rate=1gbit", link="relay", tls=Path("keys"),
    enforce=True, log_dir="logs",
)
reports: pageferry.Reports = pageferry.compare(
    strategies=["pre-copy", "hybrid"], cache=[0, "4MiB"], runs=3, granularity="page"
)
choice: str = pageferry.predict(memory=2**24, measure="1s").prediction.choice
pageferry.simulate(link="rate=25gbit", guest_speed=1e6, from_file="run.json")
pageferry.sweep(Path("plan.toml"), "results", filter="strategy=hybrid", retry_failed=True)

async def main() -> pageferry.Report:
    return await pageferry.aio.migrate(memory="16MiB")

class Mine(pageferry.Strategy):
    name = "mine"

    def first_decision(self) -> pageferry.Decision:
        return pageferry.NextRound(pageferry.RoundKind.FULL, drain=True, hold=False, reason="all")

    def next_decision(self, stats: pageferry.RoundStats) -> pageferry.Decision:
        return pageferry.StopAndCopy("one is enough")
"""
WRONG = {
    'pageferry.migrate(memroy="16MiB")': 'Unexpected keyword argument "memroy"',
    "pageferry.migrate(memory=[16])": 'Argument "memory" to "migrate" has incompatible type',
    'pageferry.migrate(strategy="precopy")': 'Argument "strategy" to "migrate" has incompatible',
    'pageferry.migrate(verify="yes")': 'Argument "verify" to "migrate" has incompatible type',
    'pageferry.compare(tls="keys")': 'Unexpected keyword argument "tls"',
    'pageferry.predict(net="rate=1gbit")': 'Unexpected keyword argument "net"',
    'pageferry.simulate(link="relay", evacuate=3)': 'Unexpected keyword argument "evacuate"',
    'pageferry.migrate("16MiB")': 'Argument 1 to "migrate" has incompatible type',
}


def test_a_checker_takes_what_is_right_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(RIGHT)
    wrong.write_text("\n".join(["import pageferry", *WRONG]))
    # With our options it begins with what our own run of mypy has found. Without configuration, as
    # at a user's, it looks through every library anew, which takes ten seconds.
    users = ("--config-file", "", "--cache-dir", ".mypy_cache/users")
    ours = ("--cache-dir", copy_known_types(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *(users if FULL else ours), right, wrong],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line for line in said if "right.py" in line] == []
    for number, (call, words) in enumerate(WRONG.items(), 2):
        found = [line for line in said if f"wrong.py:{number}: " in line]
        assert any(words in line for line in found), (call, found)


def test_the_plug_ins_types_are_there_for_annotations() -> None:
    from pageferry import pytest_plugin

    for name in ("Destination", "Hosts", "Link", "Migrate"):
        assert getattr(pytest_plugin, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        pytest_plugin.Nothing  # noqa: B018
