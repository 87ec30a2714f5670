"""`scripts/bench` in its quick form: every part gives rows, whatever their figures are."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.bench_children import environment
from scripts.bench_main import BY_NAME_ONLY, PARTS, benches, measure
from scripts.bench_rows import Effort
from scripts.bench_wire import stream
from tests.support.harness import children_of, wait_gone
from tests.support.spare import with_us_loaded
from tests.support.tiers import FULL, full_only

PROJECT = Path(__file__).parent.parent.parent
MODULE = [sys.executable, "-m", "scripts.bench_main"]
QUICK = Effort(runs=1, quick=True)
# One of each part, those that take little; the whole under PAGEFERRY_TEST_FULL.
SAMPLE = {
    "guest": ["hits"],
    "faults": ["arm"],
    "wire": ["zero"],
    "pacing": ["stream"],
    "memory": list(benches("memory")),
    "pause": ["one"],
    "startup": ["help"],
}
WHOLE = {part: list(benches(part)) for part in PARTS if part not in BY_NAME_ONLY}
CHOSEN = WHOLE if FULL else SAMPLE


@pytest.mark.parametrize(
    ("part", "name"), [(part, name) for part, names in CHOSEN.items() for name in names]
)
def test_a_part_gives_rows(part: str, name: str) -> None:
    # What it starts is as quick from the first moment; how long that takes is a part of its own.
    loaded = contextlib.nullcontext() if part == "startup" else with_us_loaded()
    with loaded:
        rows = measure(part, [name], QUICK)
    assert rows
    for row in rows:
        assert not row.failed, row
        if row.ours is None:
            assert row.note, row
            continue
        assert math.isfinite(row.ours), row
        assert row.ours >= 0, row
        assert len(row.values) == 1, row
        assert row.unit, row
        if row.against:
            assert row.ratio is not None, row
            assert row.references, row
        assert (row.met is None) == (row.bar is None), row


@pytest.mark.parametrize("kind", ["plain", "scattered+checksum"])
def test_a_stream_takes_all_its_pages_along(kind: str) -> None:
    with with_us_loaded():
        found = stream(kind, 4 * 2**20, streams=2)
    assert found.bytes >= 4 * 2**20
    assert found.seconds > 0
    assert found.source_cpu_s > 0
    assert found.dest_cpu_s > 0


@full_only
@pytest.mark.timeout(300)  # two whole rounds of benchmarks: a minute alone
def test_a_checkout_beside_itself() -> None:
    parts = list(benches("against")) if FULL else ["pre-copy"]
    found = measure("against", parts, replace(QUICK, against=PROJECT))
    assert {row.unit for row in found} >= {"ms", "CPU s/GB"}
    assert not [row for row in found if row.failed]
    assert all(len(row.values) == len(row.references) == 1 and row.met is None for row in found)


def test_a_checkout_must_not_run_the_code_of_another(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)  # its editable install is of this project
    done = run("--against", str(tmp_path), "--quick")
    assert done.returncode == 2, done
    assert f"would run the code of {PROJECT}" in done.stderr


def test_another_checkout_does_not_find_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = os.pathsep.join(["", str(PROJECT), "/users/own"])
    monkeypatch.setenv("PYTHONPATH", ours)
    assert environment(Path("/another"))["PYTHONPATH"] == "/users/own"
    assert environment(PROJECT)["PYTHONPATH"] == ours
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    assert "PYTHONPATH" not in environment(Path("/another"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*MODULE, *arguments]
    with with_us_loaded():
        return subprocess.run(
            command, capture_output=True, text=True, timeout=100, check=False, cwd=PROJECT
        )


def test_only_json_on_standard_output() -> None:
    done = run("memory:lines", "--quick", "--runs", "2", "--json", "-")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["machine"]["cpus"] >= 1
    assert {row["name"] for row in found["rows"]} == {
        "lines gathered, 8 a page",
        "lines scattered, 8 a page",
    }
    assert all(len(row["values"]) == 2 for row in found["rows"])


def test_bad_usage_is_one_line_and_2() -> None:
    for arguments, words in (
        (["nothing"], "no part 'nothing'"),
        (["memory", "--runs", "0"], "--runs"),
        (["--against", "/nonexistent"], "--against: /nonexistent has no .venv"),
        (["against"], "--against PATH"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, done
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process_behind(number: signal.Signals) -> None:
    command = [*MODULE, "wire:pages", "--runs", "100"]
    with with_us_loaded():
        bench = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=PROJECT)
    with bench:
        try:
            deadline = time.monotonic() + 60
            while not (started := children_of(bench.pid)) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert started
            bench.send_signal(number)
            _, stderr = bench.communicate(timeout=60)
        finally:
            bench.kill()
    assert bench.returncode == 130
    assert stderr.splitlines() == ["pageferry: cancelled: nothing of this run is left behind"]
    assert wait_gone(started) == []
