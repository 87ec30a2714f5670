"""Progress where there is no terminal: a line every few seconds on standard error."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import CHECKOUT, RUN_S, command, environment, pageferry
from tests.support.tiers import some
from tests.support.warm_kernels import copy_kernels

SLOW = (
    *("--memory", "32MiB", "--max-bandwidth", "4MB/s", "--strategy", "stop-and-copy"),
    *("--warmup", "0s", "--run-after", "0s", "--no-verify"),
)  # 8 s
QUICK = (*SLOW[:2], "--max-bandwidth", "unlimited", *SLOW[4:])
LINE = re.compile(r"\[ *\d+\.\d s\] \S")


def test_a_long_migration_is_followed() -> None:
    run = pageferry("migrate", *SLOW)
    assert run.exit_code == 0, run.stderr
    lines = [line for line in run.lines if LINE.match(line)]
    assert 2 <= len(lines) <= 20
    assert any("MB/s" in line for line in lines)
    assert not any(line.startswith("[") for line in run.stdout.splitlines())


@pytest.mark.parametrize("option", some([("--quiet",), ("--progress", "none")], 2))
def test_nothing_where_nothing_is_wanted(option: tuple[str, ...]) -> None:
    run = pageferry("migrate", *SLOW, *option)
    assert (run.exit_code, run.stderr) == (0, "")


def test_an_object_a_line() -> None:
    run = pageferry("migrate", *SLOW, "--progress", "json", "--json", "-")
    assert run.exit_code == 0, run.stderr
    assert run.json["outcome"] == "completed"
    said = [json.loads(line) for line in run.lines]
    assert len(said) >= 3
    assert [each["t_s"] for each in said] == sorted(each["t_s"] for each in said)
    assert all({"phase", "total_bytes", "rate_Bps"} <= each.keys() for each in said)
    assert max(each["total_bytes"] for each in said) > 2**20


def test_kernels_are_announced_before_they_are_compiled(tmp_path: Path) -> None:
    """By an agent whose cache has all but what is of this workload. It is not waited for."""
    copy_kernels(tmp_path, lacking="pageferry.common.guest.workloads.idle.*")
    with subprocess.Popen(
        command("migrate", *QUICK, "--workload", "idle"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(XDG_CACHE_HOME=str(tmp_path), TMPDIR=str(tmp_path)),
        cwd=CHECKOUT,
    ) as running:
        assert running.stderr is not None
        said = []
        for line in running.stderr:
            said.append(line)
            if "compiling kernels for idle" in line:
                break
        else:
            pytest.fail(f"it was never said: {said}")
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=RUN_S)


@pytest.mark.parametrize("form", ["plain", "json"])
def test_other_commands_follow_their_work(form: str, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('runner = "simulate"\n[options]\nmemory = "16MiB"\n[grid]\nseed = [1, 2]\n')
    log = tmp_path / "log"
    log.write_text("==1== lackey\n" + " L 1000,8\n S 2000,8\n" * 20000)
    commands = [
        ("simulate", "--memory", "16MiB", "--link", "rate=1gbit"),
        ("simulate", "--evacuate", "20", "--link", "rate=1gbit"),
        ("predict", "--memory", "16MiB", "--measure", "100ms", "--warmup", "0s"),
        ("trace", "import", str(log), str(tmp_path / "x.npz")),
        ("compare", *QUICK[:4], *QUICK[6:], "--strategies", "stop-and-copy"),
    ]
    if form == "json":
        commands = [("sweep", str(plan)), *commands[:1]]
    for each in commands:
        run = pageferry(*each, "--progress", form)
        assert run.exit_code == 0, run.stderr
        lines = [line for line in run.lines if not line.startswith("pageferry: ")]
        assert lines, each
        if form == "json":
            assert all("phase" in json.loads(line) for line in lines)
        else:
            assert all(LINE.match(line) for line in lines), lines


def test_a_form_that_is_none() -> None:
    run = pageferry("migrate", "--progress", "jsn")
    assert run.exit_code == 2
    assert "expected auto, plain, json or none; did you mean json?" in run.complaint
