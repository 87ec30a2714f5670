"""Proxies and NATs that cut what was idle for two seconds cost nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Run, pageferry
from tests.support.commands import destination
from tests.support.idle_proxy import idle_proxy
from tests.support.tiers import FULL

TROUBLE = ("Traceback", "never retrieved", "was destroyed but it is pending")
QUICK = {"--memory": "16MiB", "--run-after": "0s", "--warmup": "0s"}
CASES = {
    "lazy copy": ("--strategy", "lazy-copy", "--run-after", "5s"),
    "a long warm-up": ("--strategy", "three-path", "--warmup", "5s", "--channels", "3"),
    "a channel that seldom has its turn": (
        *("--strategy", "post-copy", "--channels", "8", "--max-bandwidth", "3MB/s"),
        *("--workload", "uniform:rate=40KB/s"),
    ),
    "a slow round": ("--strategy", "hybrid", "--max-bandwidth", "4MB/s", "--channels", "2"),
}
SAMPLE = ("lazy copy", "a long warm-up")


def move(port: int, *options: str, **more: Any) -> Run:
    quick = [
        word for option, value in QUICK.items() if option not in options for word in (option, value)
    ]
    to = ("--to", f"127.0.0.1:{port}", "--json", "-", "--quiet")
    return pageferry("source", *to, *quick, *options, **more)


def events(run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run.json["events"]
    return found


def in_one_piece(run: Run) -> None:
    assert not any(word in run.stderr for word in TROUBLE), run.stderr
    assert run.exit_code == 0, run.stderr
    assert run.json["verified"] is True
    names = [event["event"] for event in events(run)]
    assert "postcopy-paused" not in names


@pytest.mark.parametrize("case", CASES)
def test_idle_for_two_seconds(case: str) -> None:
    if case not in SAMPLE and not FULL:
        pytest.skip("a sample runs: scripts/test --full runs all")
    with destination("--once") as (dest, port), idle_proxy(port) as proxy:
        run = move(proxy.port, *CASES[case], PYTHONASYNCIODEBUG="1")
        in_one_piece(run)
        said = dest.end().stderr
        assert not any(word in said for word in TROUBLE), said


def test_idle_connections_stay_open_over_tls(tmp_path: Path) -> None:
    folders = [tmp_path / "made" / name for name in ("one", "two")]
    made = pageferry("certs", str(tmp_path / "made"), "--host", "one", "--host", "two")
    assert made.exit_code == 0, made.stderr
    options = ("--strategy", "lazy-copy", "--run-after", "5s", "--tls", str(folders[1]))
    with destination("--once", "--tls", str(folders[0])) as (_, port), idle_proxy(port) as proxy:
        in_one_piece(move(proxy.port, *options, "--tls-hostname", "one"))
