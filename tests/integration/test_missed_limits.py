"""Limits: whether a stop that fits is taken, and what is said where a limit was missed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import SMALL, Run, migrate, pageferry
from tests.support.tiers import full_only

LONG_WAY = (
    *("--memory", "512MiB", "--strategy", "pre-copy", "--max-rounds", "1000"),
    *("--max-bandwidth", "100MB/s"),
)
LINK = ("--link", "rate=100MB/s,delay=20ms")
QUICK = ("--memory", "16MiB", "--max-bandwidth", "unlimited")  # beside what `migrate` has
IN_ORDER = "sequential:working-set=256MiB,rate={}"
# Writes so fast that no round becomes smaller; slow enough for a test.
FLAT_OUT = ("--workload", "uniform:working-set=50%,rate=max", "--max-bandwidth", "50MB/s")
NEVER = ("--downtime-limit", "1us")


def simulate(*arguments: str) -> Run:
    return pageferry("simulate", *arguments, "--json", "-")


def missed(report: dict[str, Any]) -> list[str]:
    return [each["limit"] for each in report.get("limits_missed", ["not said"])]


class TestRounds:
    def test_a_stop_that_fits_is_taken_over_a_long_way(self) -> None:
        run = simulate(*LONG_WAY, *LINK, "--workload", IN_ORDER.format("60MB/s"))
        report = run.json
        assert report["downtime_ms"] <= 300
        assert len(report["rounds"]) < 100
        assert report.get("converged") is True
        fits = [each["expected_downtime_ms"] or 1e9 for each in report["decisions"]]
        first = next(index for index, each in enumerate(fits) if each <= 300)
        assert len(fits) - 1 - first <= 15

    @pytest.mark.parametrize(("delay", "rate"), [("1ms", "62MB/s"), ("20ms", "55MB/s")])
    def test_bytes_never_rise_with_the_limit(self, delay: str, rate: str) -> None:
        link = ("--link", f"rate=100MB/s,delay={delay}")
        load = ("--workload", IN_ORDER.format(rate))
        limits = ("50ms", "200ms", "300ms", "1s")
        runs = [simulate(*LONG_WAY, *link, *load, "--downtime-limit", limit) for limit in limits]
        sent = [run.json["bytes_on_wire"] for run in runs]
        assert sent == sorted(sent, reverse=True)

    def test_over_a_real_way(self) -> None:
        """What a stop may take is used: rounds are not made for the sake of a round trip."""
        options = (
            *("--memory", "64MiB", "--link", "relay", "--net", "delay=20ms,rate=800mbit"),
            *("--max-bandwidth", "100MB/s", "--strategy", "pre-copy", "--max-rounds", "60"),
            *("--cache", "0", "--workload", "sequential:working-set=100%,rate=60MB/s"),
        )
        report = migrate(*options).json
        assert report["outcome"] == "completed"
        expected = [each["expected_downtime_ms"] or 1e9 for each in report["decisions"]]
        first = next((index for index, each in enumerate(expected) if each <= 300), None)
        assert first is not None
        assert len(expected) - 1 - first <= 15
        # The bandwidth of a round is that of its bytes, without the way of its answer of 40 ms,
        # unless the link was known to carry less.
        known = [each["bandwidth"] for each in report["decisions"]][1:]
        for each, before, now in zip(report["rounds"][1:], known, known[1:], strict=False):
            without = each["bytes"] / (each["duration_ms"] - 40) * 1e3
            assert now >= 0.999 * min(before, without), (before, now, without)

    def test_rounds_of_one_kind_are_counted(self) -> None:
        run = pageferry(
            "simulate", *LONG_WAY, *LINK, *NEVER, "--workload", IN_ORDER.format("60MB/s")
        )
        assert "1,002 (full, 1,000 × dirty, final)" in run.stdout


@pytest.fixture(scope="module")
def not_converged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A migration whose rounds did not converge, and where its report and its page are."""
    limit = ("--strategy", "pre-copy", "--max-rounds", "1", "--downtime-limit", "5ms")
    folder = tmp_path_factory.mktemp("ended")
    run = pageferry(
        *("migrate", "--memory", "32MiB", *FLAT_OUT, *limit, "--warmup", "100ms"),
        *("--run-after", "100ms", "--json", str(folder / "report.json")),
        *("--html", str(folder / "page.html")),
    )
    assert run.exit_code == 0, run.stderr
    return run, folder


class TestNotConverged:
    def test_the_table_says_that_rounds_did_not_converge(
        self, not_converged: tuple[Run, Path]
    ) -> None:
        run, _ = not_converged
        row = next((line for line in run.stdout.splitlines() if "converged" in line), "")
        assert "no: --max-rounds 1 ended the rounds" in row
        assert "--downtime-limit 5ms was missed" in " ".join(run.stdout.split())

    def test_in_the_report_and_on_the_page(self, not_converged: tuple[Run, Path]) -> None:
        _, folder = not_converged
        report = json.loads((folder / "report.json").read_text())
        page = folder / "page.html"
        assert report.get("converged") is False
        assert missed(report) == ["downtime_limit"]
        assert "did not converge: --max-rounds 1 ended them" in page.read_text()
        assert "--downtime-limit 5ms was missed" in page.read_text()

    def test_one_that_converges_says_so(self) -> None:
        report = migrate(*QUICK, "--strategy", "pre-copy").json
        assert report.get("converged") is True
        assert missed(report) == []


ASKED = ("--downtime-limit", "1us")
STRATEGIES = ("three-path", "stop-and-copy", "post-copy", "pre-copy", "hybrid")


class TestMissed:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_a_limit_that_was_given(self, strategy: str) -> None:
        run = migrate(*QUICK, "--strategy", strategy, *ASKED)
        assert run.exit_code == 0, run.stderr
        report = run.json
        assert missed(report) == ["downtime_limit"]
        entry = report["limits_missed"][0]
        assert entry["limit_ms"] == pytest.approx(1e-3)
        assert entry["measured_ms"] == report["downtime_ms"]
        assert entry["why"]
        looks = strategy in ("pre-copy", "hybrid")
        assert (f"{strategy} does not look at --downtime-limit" in run.stderr) is not looks

    def test_the_default_is_no_promise_of_a_strategy_that_does_not_look(self) -> None:
        slow = ("--memory", "16MiB", "--strategy", "stop-and-copy", "--max-bandwidth", "25MB/s")
        run = migrate(*slow)
        assert run.json["downtime_ms"] > 300
        assert missed(run.json) == []
        assert "does not look" not in run.stderr
        run = migrate(*slow, "--downtime-limit", "300ms")
        assert missed(run.json) == ["downtime_limit"]

    @pytest.mark.parametrize("command", ["migrate", "simulate"])
    def test_enforce_makes_a_missed_limit_an_exit_code(self, command: str) -> None:
        rate = ("--memory", "16MiB", "--max-bandwidth", "10gbit", "--run-after", "0s")
        options = (*rate, "--strategy", "three-path", "--enforce", "--json", "-")
        run = pageferry(command, *options, *ASKED)
        assert run.exit_code == 5
        said = {"migrate": "was missed", "simulate": "would be missed"}[command]
        assert f"--downtime-limit 1us {said}" in run.complaint
        run = pageferry(command, *options, "--downtime-limit", "100s")
        assert run.exit_code == 0, run.stderr

    def test_compare_says_which_strategies_missed_a_limit(self) -> None:
        options = ("compare", "--strategies", "three-path,pre-copy", *SMALL, "--max-rounds", "1")
        run = pageferry(*options, *ASKED, "--enforce")
        assert run.exit_code == 5
        assert "three-path does not look at --downtime-limit 1us" in run.stderr
        text = " ".join(run.stdout.split())
        assert "three-path: --downtime-limit 1us was missed" in text
        assert "pre-copy: did not converge: --max-rounds 1 ended the rounds" in text
        assert "2 of 2 runs missed a limit" in run.complaint

    def test_a_sweep_with_enforce_fails_where_a_limit_was_missed(self, tmp_path: Path) -> None:
        plan = tmp_path / "plan.toml"
        plan.write_text(
            'runner = "simulate"\n[options]\nmemory = "64MiB"\ndowntime-limit = "1us"\n'
            '[grid]\nstrategy = ["three-path", "post-copy"]\n'
        )
        run = pageferry("sweep", str(plan), "--quiet", "--enforce", cwd=tmp_path)
        assert run.exit_code == 5, run.stderr
        assert "three-path, post-copy do not look at --downtime-limit 1us" in run.stderr
        assert "2 of them missed a limit" in run.stdout
        run = pageferry("sweep", str(plan), "--quiet", cwd=tmp_path)
        assert run.exit_code == 0, run.stderr

    def test_the_guests_of_a_fleet(self) -> None:
        link = ("--link", "rate=1gbit,delay=400ms")
        options = ("simulate", "--evacuate", "3", *link, "--strategy", "stop-and-copy")
        assert pageferry(*options).exit_code == 0
        assert pageferry(*options, "--enforce").exit_code == 5

    def test_a_migration_that_was_over_after_its_time(self) -> None:
        action = ("--timeout", "200ms", "--timeout-action", "stop-and-copy")
        options = ("--memory", "16MiB", "--max-bandwidth", "25MB/s", "--strategy", "pre-copy")
        run = migrate(*options, *action, "--enforce")
        assert run.exit_code == 5
        assert "timeout" in missed(run.json)
        assert run.json.get("converged") is False


SAMPLE = (("20ms", "55MB/s"), ("20ms", "60MB/s"), ("2ms", "50MB/s"), ("100ms", "5MB/s"))


def rounds_too_many(report: dict[str, Any]) -> int:
    """Rounds after the first one whose remainder would have fitted the limit.

    By the bytes that were sent, and not by what the strategy expected: what the stop took beside
    its bytes, it would have taken earlier as well.
    """
    ms = [each["bytes"] / 100e3 for each in report["rounds"]]
    beside = report["downtime_ms"] - ms[-1]
    fits = [beside + each <= 300 for each in ms[1:]]
    return len(fits) - 1 - fits.index(True) if True in fits else 0


@pytest.mark.parametrize(
    ("delay", "rate"),
    [
        pytest.param(*each, marks=() if each in SAMPLE else (pytest.mark.full, full_only))
        for each in itertools.product(
            ("0ms", "100us", "2ms", "10ms", "20ms", "100ms"),
            [f"{rate}MB/s" for rate in range(5, 100, 5)],
        )
    ],
)
def test_every_rate_and_delay(delay: str, rate: str) -> None:
    link = ("--link", f"rate=100MB/s,delay={delay}")
    report = simulate(*LONG_WAY, *link, "--workload", IN_ORDER.format(rate)).json
    assert rounds_too_many(report) <= 15


def test_a_long_time_is_said_without_an_exponent() -> None:
    link = ("--link", "rate=50MB/s,delay=1ms", "--memory", "512MiB", "--quiet")
    run = pageferry("simulate", "--strategy", "stop-and-copy", "--downtime-limit", "1ms", *link)
    assert "would be missed: 10,7" in run.stdout
    assert "e+" not in run.stdout
