"""Workloads as a user names them: near misses, what is listed, visits as real guests make them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import HERE, command, environment, migrate, pageferry
from tests.support.tiers import FULL

MIXES = ("idle", "gcc", "python", "redis", "sqlite", "dd", "targz")
WITH_GUEST = {
    "migrate": ("migrate", "--memory", "16MiB"),
    "simulate": ("simulate", "--memory", "16MiB"),
    "predict": ("predict", "--memory", "16MiB"),
    "compare": ("compare", "--memory", "16MiB"),
    "source": ("source", "--to", "127.0.0.1:9", "--memory", "16MiB"),
    "host": ("host", "--listen", "127.0.0.1:0", "--boot", "--memory", "16MiB"),
}
WRONG = {
    "a name": ("zpif", "did you mean zipf?"),
    "a name without its hyphen": ("webbrowsing", "did you mean web-browsing?"),
    "a key": ("uniform:lnes=3", "did you mean lines?"),
    "a key with an underscore": ("zipf:working_set=50%", "did you mean working-set?"),
    "a value": ("zipf:lines=65", "1 to 64"),
    "a name that nothing is near to": ("xyzzy", "idle, web-browsing"),
}
# Of each kind of value: below, above, and of another type.
VALUES = {
    "working-set": ("-1%", "150%", "lots"),
    "animation": ("-1%", "101%", "lots"),
    "rate": ("0", "-4MB/s", "fast"),
    "lines": ("0", "65", "two"),
    "scatter": ("yes", "0", "maybe"),
    "write-share": ("-1%", "101%", "half"),
    "zero-share": ("-1%", "101%", "half"),
    "entropy": ("-1%", "1.5", "much"),
    "skew": ("-0.1", "11", "steep"),
    "think": ("0.5ms", "2h", "long"),
    "ticks": ("0", "1001", "often"),
    "digest": ("0", "0" * 33, "x"),
}


# Each command once, with a name or a key in turn.
IN_TURN = [(name, ("a name", "a key")[row % 2]) for row, name in enumerate(WITH_GUEST)]
EACH = [(name, wrong) for wrong in WRONG for name in WITH_GUEST]


@pytest.mark.parametrize(("name", "wrong"), EACH if FULL else IN_TURN)
def test_what_is_wrong_is_answered_at_once_with_what_may_be_meant(name: str, wrong: str) -> None:
    """No process of the command has loaded the compiler by then, which alone takes a second."""
    text, said = WRONG[wrong]
    run = pageferry(*WITH_GUEST[name], "--workload", text, PYTHONPROFILEIMPORTTIME="1")
    assert run.exit_code == 2
    assert said in run.complaint
    loaded = {line.rpartition("|")[2].strip() for line in run.lines if "import time:" in line}
    assert "pageferry.common.config.model" in loaded
    assert not {"numba", "llvmlite"} & loaded


@pytest.mark.parametrize("wrong", WRONG)
def test_every_way_to_be_wrong(wrong: str) -> None:
    text, said = WRONG[wrong]
    run = pageferry("simulate", "--memory", "16MiB", "--workload", text)
    assert run.exit_code == 2
    assert said in run.complaint


def test_a_plan_says_where_it_has_a_workload_that_does_not_exist(tmp_path: Path) -> None:
    plan = tmp_path / "p.toml"
    plan.write_text('[options]\nworkload = "zipf"\n[grid]\n"workload.lnes" = ["1"]\n')
    run = pageferry("sweep", str(plan), "--dry-run", PYTHONPROFILEIMPORTTIME="1")
    assert run.exit_code == 2
    assert "did you mean workload.lines?" in run.complaint
    assert not [line for line in run.lines if line.endswith(" numba")]


def test_workloads_are_listed_with_their_options() -> None:
    run = pageferry("workload", "list")
    assert run.exit_code == 0, run.stderr
    for name in ("idle", "web-browsing", "zipf", "trace"):
        assert name in run.stdout
    listed = pageferry("workload", "list", "--json", "-").json["workloads"]
    assert {each["name"]: each["options"] for each in listed}["zipf"]["skew"] == "0.99"


def test_each_workload_tells_what_its_options_mean() -> None:
    listed = pageferry("workload", "list", "--json", "-").json["workloads"]
    for each in listed if FULL else listed[1:10:4]:
        shown = pageferry("workload", "show", each["name"], "--json", "-").json
        assert [option["key"] for option in shown["options"]] == list(each["options"])
        for option in shown["options"]:
            assert option["meaning"]
            assert option["range"]
            assert option["form"]
    text = pageferry("workload", "show", "zipf").stdout
    assert "Zipf exponent" in text
    assert "0 to 10" in text
    assert pageferry("workload", "show", "zpif").complaint.startswith("pageferry: unknown workload")


def test_help_says_where_workloads_are_listed() -> None:
    assert "pageferry workload list" in " ".join(pageferry("simulate", "--help").stdout.split())


def _keys_to_try(listed: list[dict[str, Any]]) -> list[tuple[dict[str, Any], list[str]]]:
    """Of each workload those that no other one before it had, or its last one."""
    tried: set[str] = set()
    found = []
    for each in listed:
        keys = [key for key in each["options"] if key != "file"]
        new = keys if FULL else [key for key in keys if key not in tried]
        tried.update(keys)
        found.append((each, new or keys[-1:]))
    return found


def test_every_value_that_can_not_be_is_one_line_with_what_was_expected() -> None:
    """Through one process: each key of each workload with values below, above, of another type.

    By default each key of some workload, and each workload that has keys.
    """
    code = (
        "import json, sys\n"
        "from pageferry.common.command_line.run import run_app\n"
        "from pageferry.cli import make_app\n"
        "app = make_app('simulate')\n"
        "for text in json.load(sys.stdin):\n"
        "    code = run_app(app, ['simulate', '--memory', '16MiB', '--workload', text])\n"
        "    print(code, flush=True)\n"
    )
    listed = pageferry("workload", "list", "--json", "-").json["workloads"]
    texts = [
        f"{each['name']}:{'file=x,' if each['name'] == 'trace' else ''}{key}={value}"
        for each, keys in _keys_to_try(listed)
        for key in keys
        for value in VALUES[key]
    ]
    python = command()[0]
    done = subprocess.run(
        [python, "-P", "-c", code],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    lines = done.stderr.strip().splitlines()
    assert len(lines) == len(texts) > (100 if FULL else 35), done.stderr[-2000:]
    assert done.stdout.split() == ["2"] * len(texts)
    for text, line in zip(texts, lines, strict=True):
        value = text.rpartition("=")[2]
        assert value in line, (text, line)
        assert re.search(r"expected|is not|is neither", line), (text, line)
        assert "Input should" not in line


@pytest.mark.parametrize("pattern", ["uniform", "zipf", "sequential"])
def test_a_guest_that_writes_as_real_ones_do_arrives_whole(pattern: str) -> None:
    """As deterministic as any other: the replay at the source has the same digest."""
    workload = f"{pattern}:working-set=50%,rate=20MB/s,lines=mix:redis"
    report = migrate("--memory", "32MiB", "--workload", workload, "--max-bandwidth", "200MB/s")
    assert report.exit_code == 0, report.stderr
    assert report.json["verified"] is True
    assert report.json["config"]["workload"] == workload


def test_mixtures_are_what_was_measured_and_are_played_in_virtual_time() -> None:
    """Bytes of what is sent again grow with a mixture's mean: 5 lines cost less than 44."""
    shown = pageferry("workload", "show", "zipf", "--json", "-").json["mixtures"]
    assert [mix["name"] for mix in shown] == list(MIXES)
    means = {mix["name"]: mix["mean_lines"] for mix in shown}
    assert means["idle"] == pytest.approx(4.74, abs=0.01)
    assert means["targz"] == pytest.approx(44.0, abs=0.1)
    costs = {}
    for name in ("1", "mix:idle", "mix:redis", "mix:targz", "64"):
        run = pageferry(
            *("simulate", "--json", "-", "--memory", "1GiB", "--strategy", "pre-copy"),
            *("--workload", f"zipf:working-set=30%,rate=20MB/s,lines={name}"),
        )
        assert run.exit_code == 0, run.stderr
        costs[name] = run.json["bytes_on_wire"]
    assert list(costs.values()) == sorted(costs.values())
    assert costs["64"] > 1.02 * costs["1"]


def test_the_page_about_workloads_names_every_option_and_mixture() -> None:
    text = (HERE / "docs/workloads.md").read_text(encoding="utf-8")
    for each in pageferry("workload", "list", "--json", "-").json["workloads"]:
        assert f"`{each['name']}`" in text
        for key in each["options"]:
            assert f"| `{key}` |" in text
    for name in MIXES:
        assert f"`mix:{name}`" in text
