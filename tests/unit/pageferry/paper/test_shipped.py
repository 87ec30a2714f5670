"""The results that come with this version: whole, verified, and what is said of them follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pageferry.paper import ablation, shipped
from pageferry.paper.locality.data import places_of
from pageferry.paper.locality.points import SEEDS, Way, every_point, measured_points, read_points
from pageferry.paper.shipped import (
    shipped_ablation,
    shipped_map,
    shipped_sentences,
    shipped_tables,
    three_sentences,
)
from pageferry.paper.shipped_file import shipped_text
from scripts import ship_results

PROJECT = Path(__file__).parents[4]


def test_every_place_of_the_map_is_there_and_every_run_verified() -> None:
    found = shipped_map()
    simulated = {row.point for row in found.simulated}
    assert simulated == {*every_point(), *read_points()}
    assert {row.point for row in found.measured} == set(measured_points())
    assert len(found.measured) == len(Way) * len(set(measured_points()))
    assert {(row.runs, row.verified) for row in found.measured} == {(len(SEEDS), len(SEEDS))}
    assert all(row.path is not None for row in found.measured if row.way != Way.PRE_COPY)


def test_the_ablation_has_all_combinations_and_predicts_a_seed_that_it_does_not_know() -> None:
    found = shipped_ablation()
    for figure in ablation.FIGURES:
        values = found.values(figure)
        assert len(values) == 8
        assert {len(each) for each in values.values()} == {len(ablation.SEEDS)}
    for pairs in ablation.predictions(found).values():
        for said, was in pairs:
            assert abs(said - was) <= 0.05


def test_the_sentences_follow_the_data() -> None:
    places = places_of(shipped_map().measured)
    said = three_sentences(places, shipped_ablation())
    assert said == shipped_sentences()
    held = [place for place in places if not place.holds("downtime_ms")]
    assert three_sentences(held, shipped_ablation())[0] != said[0]
    assert three_sentences(held, shipped_ablation())[2] != said[2]
    runs = [(on, {**each, "bytes": each["total_ms"]}) for on, each in shipped_ablation().runs]
    other = shipped_ablation().model_copy(update={"runs": tuple(runs)})
    assert three_sentences(places, other)[1] != said[1]


def test_the_readme_says_what_the_map_says() -> None:
    readme = " ".join((PROJECT / "README.md").read_text("utf-8").split())
    assert "for the downtime that holds at half of this map" in readme
    assert "for the total time in one corner of it" in readme
    assert "that the cache knows *which lines* of a page have changed" in readme
    places = places_of(shipped_map().measured)
    held = [place.holds("downtime_ms") for place in places]
    assert sum(held) / len(held) == pytest.approx(0.5, abs=0.05)
    corner = [place.point for place in places if place.holds("total_ms")]
    assert 0 < len(corner) <= 8
    assert {(at.reuse, at.rate) for at in corner} == {(32.0, 2.0)}
    found = ablation.effects(shipped_ablation())
    lines = found.of("bytes")[frozenset({"lines"})]
    assert lines == pytest.approx(found.saving("bytes"), rel=0.05)


def test_the_tables_have_every_figure_with_its_spread() -> None:
    for run in shipped_tables():
        assert run.table
        assert run.machine["processor"]
        for row in run.table:
            assert row["verified"] is True
            assert row["completed"] == row["attempts"]
            least, greatest = row["downtime_ms_spread"]
            assert least <= row["downtime_ms"] <= greatest


def test_what_is_shipped_is_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ship_results, "FOLDER", tmp_path)
    written = tmp_path / "locality-map.json"
    written.write_text(shipped_map().to_json(), "utf-8")
    ablated = tmp_path / "ablated.json"
    ablated.write_text(
        json.dumps({"ablation": shipped_ablation().model_dump(mode="json")}), "utf-8"
    )
    asked = ["--map", str(written), "--ablation", str(ablated)]
    assert ship_results.main(asked) == 0
    for name in (shipped.MAP, shipped.ABLATION):
        assert (tmp_path / name).read_text("utf-8") == shipped_text(name)
    assert ship_results.main(["--map", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
