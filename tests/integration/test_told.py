"""What is said of results: simulated or measured, the guest's loss, tables, where it comes from."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CHECKOUT, Run, pageferry
from tests.support.documents import FAULTING, SIMULATION, ZIPF, Documents, saved

pytestmark = pytest.mark.timeout(400)  # of a busy machine: a test may run several commands


@pytest.fixture(name="documents")
def _documents() -> Documents:
    return Documents()


def titles(page: str) -> list[str]:
    return re.findall(r'<figure class="picture[^"]*">\s*<h3>([^<]*)</h3>', page)


class TestSimulationsSayThatTheyAre:
    MEASURED = (
        "Measured by",
        "stood still",
        "as the guest saw it",
        "seen by the guest",
        "moved in",
    )

    @pytest.mark.parametrize("strategy", ["pre-copy", "post-copy"])
    def test_the_terminal_and_the_page(self, strategy: str, tmp_path: Path) -> None:
        page = tmp_path / "page.html"
        run = pageferry(*SIMULATION, ZIPF, "--strategy", strategy, "--html", str(page))
        assert run.exit_code == 0, run.stderr
        assert run.stdout.startswith("simulated · ")
        assert "nothing was moved" in run.stdout
        text = page.read_text()
        assert "<h1>simulated · " in text
        assert all(title.endswith("(simulated)") for title in titles(text))
        assert len(titles(text)) >= 7
        for words in self.MEASURED:
            assert words not in text
            assert words not in run.stdout

    def test_a_sweep_says_that_it_is_simulated(self, tmp_path: Path) -> None:
        plan = tmp_path / "plan.toml"
        plan.write_text(
            'runner = "simulate"\n[options]\nmemory = "64MiB"\nworkload = "zipf:rate=40MB/s"\n'
            '[grid]\nstrategy = ["pre-copy", "stop-and-copy"]\n'
            'max-bandwidth = ["50MB/s", "1GB/s"]\n'
        )
        out = tmp_path / "out"
        assert pageferry("sweep", str(plan), "--output", str(out)).exit_code == 0
        page = tmp_path / "page.html"
        run = pageferry("sweep", "show", str(out), "--html", str(page))
        assert run.exit_code == 0, run.stderr
        told, text = " ".join(run.stdout.split()), page.read_text()
        assert "4 of 4 cells, simulated" in told
        assert "Simulated: every figure is calculated" in told
        for words in ("may be chance", "repeats = 3", "runs that moved", "Measured by"):
            assert words not in told
            assert words not in text
        assert titles(text)
        assert all(title.endswith("(simulated)") for title in titles(text))

    def test_an_evacuation_says_that_it_is_simulated(self, tmp_path: Path) -> None:
        page = tmp_path / "page.html"
        run = pageferry("simulate", "--evacuate", "5", "--html", str(page))
        assert run.exit_code == 0, run.stderr
        assert run.stdout.strip().startswith("simulated: 5 guests")
        assert "the simulated plan" in run.stdout
        assert "Simulated by pageferry" in page.read_text()

    def test_beside_a_measured_run(self, documents: Documents, tmp_path: Path) -> None:
        files = [saved(tmp_path, documents[n], f"{n}.json") for n in ("limited", "simulated")]
        page = tmp_path / "page.html"
        assert pageferry("report", *files, "--html", str(page)).exit_code == 0
        assert "simulated (simulated)" in page.read_text()
        assert "simulated (simulated)" in pageferry("report", *files).stdout


def faster(report: Any) -> Any:
    """The same run, as if the guest had been slower before it."""
    out = json.loads(json.dumps(report))
    out["guest"]["steps_per_s_before"] *= 0.5
    return out


@functools.cache
def faulting() -> Run:
    """A post-copy, for whatever looks at what is said of it."""
    run = pageferry("migrate", *FAULTING, "--warmup", "200ms", "--run-after", "100ms")
    assert run.exit_code == 0, run.stderr
    return run


class TestTheGuestsLoss:
    def test_a_gain_is_said_as_one_everywhere(self, documents: Documents, tmp_path: Path) -> None:
        report = faster(documents["limited"])
        guest, total_ms = report["guest"], report["total_time_ms"]
        lost = 1 - guest["steps_during"] / (guest["steps_per_s_before"] * total_ms / 1e3)
        assert lost < -0.1
        words = f"{-100 * lost:.1f} % faster than before"
        file, page = saved(tmp_path, report), tmp_path / "page.html"
        one, two = pageferry("report", file), pageferry("report", file, file)
        assert pageferry("report", file, "--html", str(page)).exit_code == 0
        for text in (" ".join(one.stdout.split()), two.stdout, page.read_text()):
            assert words in text
            assert "0.0 % lost" not in text
            assert "\u2212" not in text.split(words)[0][-40:]

    def test_table_page_json_and_compare_agree(self, documents: Documents, tmp_path: Path) -> None:
        for report, row in zip(
            documents["compared"]["runs"], documents["compared"]["table"], strict=True
        ):
            assert row["guest_slowdown"] == pytest.approx(report["guest"]["lost"])
            words = f"{100 * report['guest']['lost']:.1f} %"
            if report["guest"]["lost"] < 0:
                words = f"{words[1:]} faster than before"
            file, page = saved(tmp_path, report), tmp_path / "page.html"
            assert f"{words}" in pageferry("report", file).stdout
            assert pageferry("report", file, "--html", str(page), "--force").exit_code == 0
            assert words in page.read_text()

    def test_there_is_no_ratio_of_a_gain_to_a_loss(self, documents: Documents) -> None:
        for row in documents["compared"]["table"]:
            ratio = row["guest_slowdown_ratio"]
            assert ratio is None or ratio >= 0

    def test_nor_in_the_table_of_two_reports(self, documents: Documents, tmp_path: Path) -> None:
        lost, gained = saved(tmp_path, documents["limited"], "lost.json"), tmp_path / "gained.json"
        saved(tmp_path, faster(documents["limited"]), gained.name)
        run = pageferry("report", lost, str(gained))
        assert run.exit_code == 0, run.stderr
        row = next(line for line in run.stdout.splitlines() if line.split()[:1] == ["gained"])
        assert re.search(r"faster than before +– ", row), row

    def test_rows_of_a_post_copy(self) -> None:
        rows = {
            line.split("│")[1].strip(): line.split("│")[2].strip()
            for line in faulting().stdout.splitlines()
            if line.count("│") > 2
        }
        assert re.search(r"^[\d,]+, p50 [\d.,]+ ms, p99 [\d.,]+ ms", rows.get("faults", ""))
        assert rows["mechanism"].startswith(("kernel", "software"))
        assert re.search(r"^[\d.,]+ ms", rows["below half speed"])
        assert "of its speed" in rows["guest's loss"] or "faster" in rows["guest's loss"]

    def test_what_a_speed_and_a_gap_count_is_said(self) -> None:
        told = " ".join(faulting().stdout.replace("│", " ").split())
        assert "up to the resume" in told
        assert "between two beats of a vCPU" in told


class TestReportWithoutAPage:
    def test_the_table_of_one(self, documents: Documents, tmp_path: Path) -> None:
        run = pageferry("report", saved(tmp_path, documents["limited"]))
        assert run.exit_code == 0, run.stderr
        assert "pre-copy · idle · 16MiB" in run.stdout
        assert "downtime" in run.stdout
        assert "completed" in run.stdout

    def test_of_one_that_never_began(self, documents: Documents, tmp_path: Path) -> None:
        run = pageferry("report", saved(tmp_path, documents["failed"]))
        assert run.exit_code == 0, run.stderr
        assert "failed" in run.stdout

    def test_the_comparison_of_several(self, documents: Documents, tmp_path: Path) -> None:
        names = ("limited", "unlimited", "failed")
        files = [saved(tmp_path, documents[name], f"{name}.json") for name in names]
        run = pageferry("report", *files)
        assert run.exit_code == 0, run.stderr
        heads = [line.split()[0] for line in run.stdout.splitlines() if line.strip()]
        assert [name for name in heads if name in names] == list(names)
        assert "FAILED" in run.stdout

    def test_report_prints_what_compare_wrote(self, documents: Documents, tmp_path: Path) -> None:
        run = pageferry("report", saved(tmp_path, documents["compared"]))
        assert run.exit_code == 0, run.stderr
        assert documents["compared"]["sheets"][0]["title"] in run.stdout

    def test_what_is_no_result_is_one_line(self, tmp_path: Path) -> None:
        run: Run = pageferry("report", str(tmp_path / "none.json"))
        assert (run.exit_code, run.stdout, len(run.lines)) == (2, "", 1)
        assert "none.json can't be read" in run.complaint


class TestWhereItComesFrom:
    def test_date_command_line_and_processor(self, documents: Documents) -> None:
        report = documents["limited"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", report.get("date", ""))
        assert report["command"].startswith("pageferry migrate --json - ")
        assert report["command"].endswith("--strategy pre-copy --max-bandwidth 100MB/s")
        config = report["config"]
        assert config["processor"]
        assert config["processor"] == config["dest_processor"]
        assert documents["simulated"]["command"].startswith("pageferry simulate ")
        for run in documents["compared"]["runs"]:
            assert run["command"].startswith("pageferry compare ")

    def test_the_paper_is_named(self) -> None:
        readme = (CHECKOUT / "README.md").read_text("utf-8")
        for words in (
            "應用快取記憶體提高即時遷移虛擬機器之效能",
            "陳莊智",
            "李維聰",
            "楊堯強",
            "孫天文",
        ):
            assert words in readme
