"""A link that was stated is what a run goes by; with a limit beside it, which of them is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import migrate, pageferry

FAST = "rate=100gbit,delay=50us"


def simulate(*arguments: str) -> Any:
    return pageferry("simulate", *arguments, "--json", "-").json


class TestSimulated:
    @pytest.mark.parametrize(
        ("memory", "link", "seconds"),
        [("1TiB", FAST, 88), ("256MiB", "rate=10gbit", 0.215), ("64MiB", "rate=10MB/s", 6.7)],
    )
    def test_at_its_own_rate(self, memory: str, link: str, seconds: float) -> None:
        report = simulate("--memory", memory, "--link", link)
        assert report["total_time_ms"] == pytest.approx(seconds * 1e3, rel=0.05)
        assert (report.get("bound") or {}).get("by") == "link"

    def test_a_limit_that_was_set_holds(self) -> None:
        """Also where it is the default."""
        link = ("--memory", "64MiB", "--link", FAST)
        report = simulate(*link, "--max-bandwidth", "100MB/s")
        assert report["total_time_ms"] == pytest.approx(671, rel=0.05)
        run = pageferry("simulate", *link, "--max-bandwidth", "100MB/s")
        row = next((line for line in run.stdout.splitlines() if "bound by" in line), "")
        assert "--max-bandwidth 100 MB/s: the link carries 12.5 GB/s" in row
        run = pageferry("simulate", *link, "--max-bandwidth", "200gbit")
        row = next((line for line in run.stdout.splitlines() if "bound by" in line), "")
        assert "the link: it carries 12.5 GB/s, --max-bandwidth allows 25" in row

    def test_no_link_no_change(self) -> None:
        report = simulate("--memory", "64MiB", "--link", "delay=1ms")
        assert report["total_time_ms"] == pytest.approx(671, rel=0.05)

    @pytest.mark.parametrize("options", [{}, {"net": "rate=10gbit"}, {"link": "rate=10gbit"}])
    def test_a_sweep_simulates_the_stated_link(
        self, tmp_path: Path, options: dict[str, str]
    ) -> None:
        lines = "".join(f'{name} = "{value}"\n' for name, value in options.items())
        plan = tmp_path / "plan.toml"
        plan.write_text(f'runner = "simulate"\n[options]\nmemory = "256MiB"\n{lines}')
        run = pageferry("sweep", str(plan), "--quiet", cwd=tmp_path)
        assert run.exit_code == 0, run.stderr
        report = next((tmp_path / "plan").rglob("*report*.json"), None)
        found = [json.loads(each.read_text()) for each in (tmp_path / "plan").rglob("*.json")]
        totals = [each["total_time_ms"] for each in found if "total_time_ms" in each]
        assert totals, report
        assert totals[0] == pytest.approx(220 if options else 2700, rel=0.1)


class TestReal:
    LINK = ("--link", "relay", "--net", "rate=2gbit", "--memory", "64MiB")

    def test_at_its_own_rate(self) -> None:
        report = migrate(*self.LINK, "--strategy", "stop-and-copy").json
        assert report["outcome"] == "completed"
        assert report["total_time_ms"] < 500  # 268 at the link's rate, 671 at the limit's default
        assert report["bound"]["by"] == "link"

    def test_a_limit_that_was_set_holds(self) -> None:
        run = pageferry(
            *("migrate", *self.LINK, "--strategy", "stop-and-copy", "--warmup", "100ms"),
            *("--run-after", "100ms", "--max-bandwidth", "100MB/s"),
        )
        assert run.exit_code == 0, run.stderr
        row = next((line for line in run.stdout.splitlines() if "bound by" in line), "")
        assert "--max-bandwidth 100 MB/s: the link carries" in row

    def test_compare_sends_at_the_links_rate(self) -> None:
        times = ("--warmup", "100ms", "--run-after", "100ms", "--json", "-")
        run = pageferry("compare", "--strategies", "stop-and-copy", *self.LINK, *times)
        assert run.exit_code == 0, run.stderr
        assert run.json["runs"][0]["total_time_ms"] < 500

    def test_a_prediction_takes_the_assumed_bandwidth(self) -> None:
        options = ("--memory", "64MiB", "--assume-bandwidth", "200MB/s", "--measure", "100ms")
        run = pageferry("predict", *options, "--warmup", "100ms", "--json", "-")
        assert run.exit_code == 0, run.stderr
        assert run.json["prediction"]["bandwidth"] == pytest.approx(200e6)
