"""Figures of results: exact percentiles, null for what was not measured, one type a field."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command_line import CHECKOUT, migrate, pageferry
from tests.support.documents import REPORTS, SIMULATION, ZIPF, Documents, saved

pytestmark = pytest.mark.timeout(400)  # of a busy machine: a test may run several commands


@pytest.fixture(name="documents")
def _documents() -> Documents:
    return Documents()


class TestPercentiles:
    def test_they_are_latencies_of_the_trace_by_the_nearest_rank(
        self, documents: Documents
    ) -> None:
        part = documents["traced"]["postcopy"]
        us = [fault["us"] for fault in part["trace"]]
        assert len(us) > 100
        for name, share in {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}.items():
            exact = float(np.quantile(us, share, method="inverted_cdf"))
            assert part["fault_latency_us"][name] == exact, name

    def test_no_library_that_lacks_a_wheel_is_needed_for_them(self) -> None:
        assert "hdrhistogram" not in (CHECKOUT / "pyproject.toml").read_text()

    def test_the_histogram_of_an_old_report_is_read(
        self, documents: Documents, tmp_path: Path
    ) -> None:
        """Text of hdrhistogram 0.10.3: a hundred latencies from 20 to 1,000 us."""
        old = json.loads(json.dumps(documents["traced"]))
        old["postcopy"].pop("fault_counts", None)
        latency = {"p50": 270.0, "p90": 850.0, "p99": 990.0, "p999": 1000.0, "max": 1000.0}
        old["postcopy"] |= {"faults": 100, "fault_latency_us": latency, "trace": []}
        old["postcopy"]["fault_histogram"] = (
            "HISTFAAAAIF4nC3I0QoBURSF4W2fkCZJkyQmSZI0SZomSZOkSXLnkbyBN/IsLlx6BH9r5nytf9eZPF+x"
            "mb2teqE+X+KP6GPFr/q5t7zhHkhAE23pSISu9NCXWAY+1EYylgRTmWEuC1lihTVLaeqb2tZ3LKMZcuzl"
            "IEcUcsJZLlL6Vbv5H4+UFFM="
        )
        page = tmp_path / "page.html"
        run = pageferry("report", saved(tmp_path, old), "--html", str(page))
        assert run.exit_code == 0, run.stderr
        assert "can&#39;t be read" not in page.read_text()


class TestWhatWasNotMeasuredIsNull:
    def test_what_was_not_asked_for(self, documents: Documents) -> None:
        report = documents["limited"]
        guest, (first, *_) = report["guest"], report["rounds"]
        assert (guest["throttle_peak"], guest["slowed_ms"]) == (None, None)
        assert (first["throttle"], first["delta_pages"]) == (None, None)
        assert (report["pages"]["writes"], report["pages"]["writes_total"]) == (None, None)
        assert documents["unlimited"]["postcopy"]["trace"] is None
        assert [each["dirtied"] for each in documents["traced"]["pages"]["activity"]] == [
            None
        ] * len(documents["traced"]["pages"]["activity"])

    def test_what_was_asked_for_is_there(self, documents: Documents) -> None:
        guest = documents["converging"]["guest"]
        assert (guest["throttle_peak"], guest["slowed_ms"]) == (0.0, 0.0)
        assert documents["counting"]["pages"]["writes_total"] is not None
        assert documents["limited"]["rounds"][0]["lines"] == 0
        assert documents["traced"]["postcopy"]["trace"]

    def test_pages_that_cannot_go_by_line(self, documents: Documents) -> None:
        report = documents["counting"]
        assert (report["lines_sent"], report["bytes_saved"]) == (None, None)
        assert {each["lines"] for each in report["rounds"]} == {None}

    def test_without_a_cache_nothing_is_drained(self) -> None:
        run = migrate(
            *("--memory", "16MiB", "--cache", "0", "--strategy", "stop-and-copy"),
            *("--max-bandwidth", "unlimited"),
        )
        assert {each["drained_lines"] for each in run.json["rounds"]} == {None}

    def test_without_a_warm_up_no_speed_before(self, documents: Documents) -> None:
        guest = documents["cold"]["guest"]
        assert (guest["steps_before"], guest["steps_per_s_before"], guest["lost"]) == (None,) * 3
        assert (guest["steps_after"], guest["steps_per_s_after"]) == (None, None)
        assert guest["steps_during"] is not None

    def test_a_migration_that_never_began(self, documents: Documents) -> None:
        guest = documents["failed"]["guest"]
        numbers = {name: guest[name] for name in guest if name.startswith(("steps", "longest"))}
        assert set(numbers.values()) == {None}, numbers

    def test_a_simulation_knows_no_spread_of_faults(self) -> None:
        run = pageferry(*SIMULATION, ZIPF, "--strategy", "post-copy", "--json", "-")
        part = run.json["postcopy"]
        assert part["fault_latency_us"]["p50"] > 0
        unknown = ("p90", "p99", "p999", "max")
        assert {part["fault_latency_us"][name] for name in unknown} == {None}
        assert (part["duplicates"], part["zero_fills"], part["trace"]) == (None, None, None)


class TestOneTypeAField:
    def test_every_field_of_every_document(self, documents: Documents) -> None:
        for group in (REPORTS, ("compared",), ("predicted",)):
            seen: defaultdict[str, set[str]] = defaultdict(set)
            for name in group:
                _collect("", documents[name], seen)
            mixed = {path: kinds for path, kinds in seen.items() if len(kinds - {"NoneType"}) > 1}
            assert not mixed

    def test_no_limit_is_null_with_a_text_beside_it(self, documents: Documents) -> None:
        beside = "max_bandwidth_text"
        for name in ("unlimited", "simulated", "predicted"):
            config = documents[name]["config"]
            assert (config["max_bandwidth"], config.get(beside)) == (None, "unlimited")
        config = documents["limited"]["config"]
        assert (config["max_bandwidth"], config.get(beside)) == (1e8, "100MB/s")

    def test_duckdb_gives_the_column_a_type(self, documents: Documents, tmp_path: Path) -> None:
        duckdb = pytest.importorskip("duckdb")
        files = [saved(tmp_path, documents[name], f"{name}.json") for name in REPORTS]
        asked = "SELECT typeof(config.max_bandwidth), typeof(guest.lost), typeof(downtime_ms)"
        source = f" FROM read_json({files}, union_by_name = true)"
        found = duckdb.sql(asked + source).fetchall()
        assert set(found) == {("DOUBLE", "DOUBLE", "DOUBLE")}

    def test_the_questions_that_the_documents_ask(
        self, documents: Documents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        duckdb = pytest.importorskip("duckdb")
        text = (CHECKOUT / "docs/results.md").read_text("utf-8")
        (block,) = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
        for name in REPORTS:
            saved(tmp_path, documents[name], f"run-{name}.json")
        saved(tmp_path, documents["compared"], "compare.json")
        saved(tmp_path, documents["traced"])
        monkeypatch.chdir(tmp_path)
        asked = [
            each for each in block.split(";") if each.strip() and "results.parquet" not in each
        ]
        assert len(asked) >= 5
        for each in asked:
            assert duckdb.sql(each).fetchall(), each

    def test_a_report_of_an_earlier_version_is_read(
        self, documents: Documents, tmp_path: Path
    ) -> None:
        old = json.loads(json.dumps(documents["limited"]))
        old["config"]["max_bandwidth"] = "unlimited"
        for name in ("max_bandwidth_text", "processor", "dest_processor"):
            old["config"].pop(name, None)
        for name in ("date", "command"):
            old.pop(name, None)
        old["guest"] |= {"throttle_peak": 0.0, "slowed_ms": 0.0}
        for each in old["rounds"]:
            each |= {"throttle": 0.0, "delta_pages": 0}
        file = saved(tmp_path, old)
        assert pageferry("report", file, "--html", str(tmp_path / "a.html")).exit_code == 0
        for document in (file, saved(tmp_path, documents["unlimited"], "new.json")):
            run = pageferry("simulate", "--from", document, "--link", "rate=1gbit", "--json", "-")
            assert run.exit_code == 0, run.stderr
            assert run.json["config"]["max_bandwidth"] is None


def _collect(path: str, value: Any, seen: defaultdict[str, set[str]]) -> None:
    seen[path].add(type(value).__name__)
    if isinstance(value, dict):
        for name, each in value.items():
            _collect(f"{path}.{name}", each, seen)
    elif isinstance(value, list):
        for each in value:
            _collect(f"{path}[]", each, seen)
