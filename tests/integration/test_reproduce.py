"""`pageferry reproduce` with real agents: one that is interrupted keeps what it has."""

from __future__ import annotations

import json
import signal
from html import unescape
from pathlib import Path

import pytest

from pageferry.commands.reproduce_map import MAP_FILE, reproduce_map
from pageferry.common.command_line.run import OutputOptions
from pageferry.paper import ablation
from pageferry.paper.locality.data import MapDocument, places_of
from pageferry.paper.locality.points import Point
from tests.support.harness import agent, children_of, pageferry, wait_gone
from tests.support.tiers import full_only


def test_a_signal_keeps_the_cases_that_had_finished() -> None:
    with agent("reproduce", "--quick", "--json", "-", "--quiet") as running:
        running.wait_status(lambda key, value: key == "run" and value["run"] == 3)
        running.wait_status(lambda key, value: key == "status" and value["phase"] == "warming up")
        agents = children_of(running.process.pid)
        running.process.send_signal(signal.SIGINT)
        run = running.end()
    assert run.exit_code == 130, run.stderr
    assert "cancelled: 2 of 28 runs had finished" in run.complaint
    document = json.loads(run.stdout)
    assert document["schema_version"] == 1
    assert document["interrupted"] is True
    assert document["scale"] == 16
    with_cache, without = document["table"]
    assert (with_cache["strategy"], with_cache["path"], with_cache["rounds"]) == (
        "three-path",
        1,
        3,
    )
    assert (without["strategy"], without["rounds"]) == ("pre-copy", 11)
    assert with_cache["verified"] is without["verified"] is True
    assert [report["verified"] for report in document["runs"]] == [True, True]
    assert with_cache["paper_downtime_ms"] == 348 / 16
    assert wait_gone(agents) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--rates", "fast"), "--rates"),
        (("--rates", "100MB/s,800mbit"), "twice"),
        (("--runs", "0"), "--runs"),
        (("--path3", "pre-copy"), "post-copy"),
        (("--map", "folder", "--ablate"), "exclude one another"),
        (("--ablate", "--quick"), "--quick is not for --ablate"),
        (("--map", "folder", "--seed", "3"), "--seed is not for --map"),
        (("--shipped", "--no-examples"), "--examples is not for --shipped"),
        (("--map", "/dev/null/folder"), "/dev/null/folder"),
    ],
)
def test_bad_usage_is_named_and_prints_no_table(arguments: tuple[str, ...], named: str) -> None:
    run = pageferry("reproduce", *arguments)
    assert run.exit_code == 2
    assert named in run.complaint
    assert run.stdout == ""


def test_what_is_shipped_is_printed_without_running_anything(tmp_path: Path) -> None:
    page = tmp_path / "shipped.html"
    run = pageferry("reproduce", "--shipped", "--json", "-", "--html", str(page))
    assert run.exit_code == 0, run.stderr
    document = json.loads(run.stdout)
    assert len(document["map"]["places"]) == 105 + 18
    assert {each["kind"] for each in document["programs"]["places"]} == {"program", "guest"}
    html = unescape(page.read_text("utf-8"))
    for said in (*document["sentences"], "Where real programs and guests are on the map"):
        assert said in html
    printed = pageferry("reproduce", "--shipped").stdout
    assert " ".join(printed.split()).endswith(document["sentences"][-1])
    assert "The paper's experiment: 512MiB guest, 4MiB cache, link of 100MB/s" in printed


@full_only
def test_a_place_of_the_map_is_measured_once_and_verified(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    point, folder = Point(1, 32.0, 2.0), tmp_path / "map"
    output = OutputOptions(quiet=True, json_file=str(tmp_path / "map.json"))
    assert reproduce_map(folder, output, None, [point]) == 0
    found = MapDocument.model_validate_json((folder / MAP_FILE).read_text("utf-8"))
    (place,) = places_of(found.measured)
    assert place.point == point
    assert all((row.runs, row.verified) == (3, 3) for row in place.rows.values())
    assert place.holds("total_ms")  # a line in place of a page, round after round
    assert len(places_of(found.simulated)) == 315
    assert "is reached" in capfd.readouterr().out
    records = sorted((folder / "cells").iterdir())
    assert len(records) == 9
    before = [each.stat().st_mtime_ns for each in records]
    again = OutputOptions(quiet=True, html_file=str(tmp_path / "map.html"))
    assert reproduce_map(folder, again, None, [point]) == 0
    assert [each.stat().st_mtime_ns for each in records] == before  # nothing was run again
    assert "Where the cache pays" in (tmp_path / "map.html").read_text("utf-8")


@full_only
def test_what_each_mechanism_does_is_measured_and_verified() -> None:
    run = pageferry("reproduce", "--ablate", "--quiet", "--json", "-", timeout=600)
    assert run.exit_code == 0, run.stderr
    document = json.loads(run.stdout)
    assert len(document["runs"]) == 6 * len(ablation.SEEDS)
    assert all(report["verified"] for report in document["runs"])
    effects = document["effects"]["bytes"]["effects"]
    assert effects["hold"] == 0
    assert effects["lines"] > 0
    assert sum(effects.values()) == pytest.approx(document["effects"]["bytes"]["saving"])
