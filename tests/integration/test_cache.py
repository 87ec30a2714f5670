"""A cache is divided among vCPUs as it can be, and that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import SMALL, pageferry

LOAD = ("--workload", "uniform:rate=5MB/s")


def test_three_vcpus_with_the_default_cache() -> None:
    run = pageferry("migrate", *SMALL, "--vcpus", "3", *LOAD, "--json", "-")
    assert run.exit_code == 0, run.stderr
    assert run.json["verified"] is True
    assert run.json["cache"]["hits"] + run.json["cache"]["misses"] > 0
    assert "of a cache of 4MiB 3MiB is used, 1MiB for each vCPU" in run.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--vcpus", "5"),
        ("--vcpus", "6", "--cache-ways", "3"),
        ("--vcpus", "7", "--cache", "1MiB"),
        ("--cache-ways", "5"),
        ("--vcpus", "3", "--cache-line", "256"),
    ],
)
def test_any_number_of_vcpus_and_ways(options: tuple[str, ...]) -> None:
    run = pageferry(
        "simulate", "--memory", "64MiB", *LOAD, *options, "--link", "rate=1gbit", "--json", "-"
    )
    assert run.exit_code == 0, run.stderr
    assert "of a cache of" in run.stderr
    config = run.json["config"]
    assert 0 < config["cache_used"] < config["cache"]


def test_a_cache_that_divides_is_not_talked_about() -> None:
    run = pageferry("simulate", "--memory", "64MiB", "--vcpus", "4", "--link", "rate=1gbit")
    assert run.exit_code == 0
    assert "cache" not in run.stderr


def test_a_plan_with_vcpus_as_an_axis(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("[grid]\nvcpus = [1, 3, 5]\n")
    run = pageferry("sweep", str(plan), "--dry-run")
    assert run.exit_code == 0, run.stderr
    assert "3MiB is used" in run.stderr
    assert "2560KiB is used" in run.stderr
