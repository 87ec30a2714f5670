"""From reports to figures: what plotly is given is what was measured, and plotly takes it."""

from __future__ import annotations

import re
from typing import Any

import plotly.graph_objects as go
import pytest

from pageferry.common.html import comparison, guest, palette, postcopy, transfer
from pageferry.common.html.page import draw_run
from pageferry.common.html.picture import Picture, downtime_phase, phases
from pageferry.common.report.latency_histogram import known_counts
from tests.support.every_report import (
    BINS,
    OLD_HISTOGRAM,
    completed,
    failed,
    full_report,
    kinds,
    lazy,
)
from tests.support.known import known


def figure(found: list[Picture], key: str) -> dict[str, Any]:
    (made,) = [each.figure for each in found if each.key == key]
    assert made is not None
    return made


def painted(value: Any) -> Any:
    """With the colours of the light page, as plotly's own checks want them."""
    if isinstance(value, str):
        name = re.fullmatch(r"var\(--([a-z-]+)\)", value)
        return palette.LIGHT[name[1]] if name else value
    if isinstance(value, dict):
        return {key: painted(each) for key, each in value.items()}
    return [painted(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", kinds())
def test_each_picture_is_a_figure_or_a_sentence(kind: str) -> None:
    for picture in draw_run(kinds()[kind]):
        if picture.figure is None:
            assert picture.missing.endswith("."), picture.key
            continue
        assert picture.look.startswith("Look ")
        assert picture.look.endswith(".")
        go.Figure(painted(picture.figure))  # refuses what plotly does not know
        axes = [value for key, value in picture.figure["layout"].items() if "axis" in key]
        assert any(re.search(r"\(.+\)", axis["title"]["text"]) for axis in axes), picture.key


def test_a_failed_run_has_a_sentence_for_everything() -> None:
    assert all(picture.figure is None for picture in draw_run(failed()))


def test_phases_are_rounds_downtime_and_post_copy_in_order() -> None:
    found = [(p.kind, p.start_ms, p.end_ms) for p in phases(full_report())]
    assert found == [("full", 1, 901), ("stop", 980, 990), ("post-copy", 990, 1490)]


def test_the_stop_without_its_events() -> None:
    still = downtime_phase(full_report(events=[]))
    assert still is not None
    assert (still.start_ms, still.end_ms) == (980.0, 990.0)


def test_the_speed_is_drawn_over_both_hosts() -> None:
    found = guest.draw_speed(completed())
    source, dest = figure(found, "speed")["data"]
    assert source["x"][-1] == pytest.approx(0.9)  # s
    assert dest["x"][0] == pytest.approx(0.99)  # it runs from the resume on
    assert max(source["y"]) == 5e4
    gap = figure(found, "stop")["data"][-1]
    assert gap["x"] == pytest.approx([-0.2, 10.3])  # ms since the pause
    bands = figure(found, "stop")["layout"]["shapes"]
    assert (bands[0]["x0"], bands[0]["x1"]) == (0.0, 10.0)


def test_a_gap_that_was_elsewhere_is_told_and_not_drawn() -> None:
    report = completed()
    report.guest.longest_gap_start_ms = 100.0
    close = guest.draw_speed(report)[1]
    assert "was elsewhere: 100 ms after" in close.look
    assert len(figure([close], "stop")["data"]) == 2


def test_rounds_are_as_wide_as_they_were_long() -> None:
    full, final = figure([transfer.draw_rounds(completed())], "rounds")["data"]
    assert full["x"] == [451.0]
    assert full["width"] == [900.0]
    assert full["y"] == pytest.approx([8.0 / 0.9])  # MB/s
    assert final["y"] == pytest.approx([10.0])


def test_the_waterfall_has_its_parts_in_order() -> None:
    (bars,) = figure([transfer.draw_downtime(completed())], "downtime")["data"]
    assert bars["base"] == [0.0, 1.0, 3.0, 6.0, 7.0]
    assert bars["x"] == [1.0, 2.0, 3.0, 1.0, 3.0]


def test_heat_columns_lie_where_they_were() -> None:
    maps = figure([transfer.draw_activity(full_report())], "heat")["data"]
    assert len(maps) == 3  # dirtied, sent, waited for
    edges, cells = maps[1]["x"], maps[1]["z"]
    assert edges == pytest.approx([1.0, 901.0, 981.0, 989.0, 990.0, 1490.0])
    assert len(cells) == BINS
    assert cells[5] == [pytest.approx(2.0), None, pytest.approx(2.0), None, pytest.approx(2.0)]  # %
    assert len(figure([transfer.draw_activity(completed())], "heat")["data"]) == 2


def test_latencies_are_those_of_the_histogram() -> None:
    report = full_report()
    assert report.postcopy is not None
    bars = known_counts(report.postcopy)
    assert sum(each.faults for each in bars) == 100
    assert bars[0].from_us <= 20.0 < bars[0].to_us
    assert bars[-1].from_us <= 1000.2 < bars[-1].to_us
    old = report.postcopy.model_copy(update={"fault_counts": [], "fault_histogram": OLD_HISTOGRAM})
    assert sum(each.faults for each in known_counts(old)) == 100  # its cells round latencies up
    assert known_counts(old)[0] == bars[0]


@pytest.mark.parametrize("damaged", ["", "HISTF", "HISTFAAAA", "<script>", "\u00e9" * 40])
def test_a_damaged_histogram_is_a_sentence(damaged: str) -> None:
    report = full_report()
    assert report.postcopy is not None
    report.postcopy.fault_counts, report.postcopy.fault_histogram = [], damaged
    assert "can't be read" in postcopy.draw_postcopy(report)[0].missing


def test_faults_are_thinned_and_the_longest_stays() -> None:
    report = full_report()
    assert report.postcopy is not None
    one = known(report.postcopy.trace)[0]
    many = [one.model_copy(update={"t_ms": n / 10, "us": 30.0 + n % 7}) for n in range(50_000)]
    many[31_000].us = 98_765.0
    report.postcopy.trace = many
    report.postcopy.faults = 60_000
    picture = postcopy.draw_postcopy(report)[2]
    assert max(figure([picture], "faults")["data"][0]["y"]) == 98_765.0
    assert "50,000 of 60,000 faults were traced" in picture.note
    assert "of 50,000 points are drawn" in picture.note


def test_lazy_copy_has_latencies_and_no_rounds() -> None:
    found = {picture.key: picture for picture in draw_run(lazy())}
    assert found["latency"].figure is not None
    assert found["rounds"].figure is None
    assert "faults" not in found


def test_a_comparison_leaves_out_runs_that_failed() -> None:
    reports = [completed(), failed(), full_report(downtime_ms=900.0)]
    down, total, against = comparison.draw_comparison(["a", "b", "<i>c"], reports)
    assert figure([down], "downtimes")["data"][0]["x"] == [10.0, 900.0]
    assert figure([total], "totals")["data"][0]["x"] == [1000.0, 1490.0]
    points = figure([against], "against")["data"]
    assert [(each["x"], each["y"]) for each in points] == [([8.1], [10.0]), ([8.1], [900.0])]
    assert figure([against], "against")["layout"]["yaxis"]["type"] == "log"
    assert [each["text"] for each in points] == [["a"], ["&lt;i&gt;c"]]
    for picture in (down, total, against):
        assert picture.figure is not None
        go.Figure(painted(picture.figure))


@pytest.mark.parametrize("far", [10.5, 9e5])
def test_bars_begin_at_zero(far: float) -> None:
    reports = [completed(), full_report(downtime_ms=far)]
    for picture in comparison.draw_comparison(["a", "b"], reports)[:2]:
        across = figure([picture], picture.key)["layout"]["xaxis"]
        assert across["range"][0] == 0
        assert across["range"][1] > max(figure([picture], picture.key)["data"][0]["x"])
        assert "type" not in across
    everything_alike = [completed(), completed(), completed()]
    against = comparison.draw_comparison(["a", "b", "c"], everything_alike)[2]
    assert figure([against], "against")["layout"]["xaxis"]["rangemode"] == "tozero"


def test_runs_of_a_case_are_one_bar_with_its_spread() -> None:
    runs = [completed(downtime_ms=ms) for ms in (5.0, 30.0, 6.0)]
    names = ["a", "b", "a", "a", "b"]
    reports = [runs[0], full_report(), runs[1], runs[2], failed()]
    down, _, against = comparison.draw_comparison(names, reports)
    bars, rings, figures = figure([down], "downtimes")["data"]
    assert bars["x"] == [6.0, full_report().downtime_ms]
    assert (bars["error_x"]["array"][0], bars["error_x"]["arrayminus"][0]) == (24.0, 1.0)
    assert (bars["error_x"]["array"][1], bars["error_x"]["arrayminus"][1]) == (None, None)
    assert sorted(rings["x"]) == [5.0, 6.0, 30.0]
    assert figures["x"][0] == 30.0
    assert "median of a case's runs" in down.look
    points = figure([against], "against")["data"]
    assert [each["text"] for each in points] == [["", "", "a"], ["b"]]


def test_a_strategy_has_its_colour_in_every_picture() -> None:
    names = ["pre-copy", "post-copy", "pre-copy, cache 0"]
    reports = [completed(strategy=name.partition(",")[0]) for name in names]
    down, total, against = comparison.draw_comparison(names, reports)
    hues = figure([down], "downtimes")["data"][0]["marker"]["color"]
    assert hues[0] == hues[2] != hues[1]
    assert figure([total], "totals")["data"][0]["marker"]["color"] == hues
    assert [e["marker"]["color"] for e in figure([against], "against")["data"]] == hues
    known = palette.strategy_colours(["pre-copy", "hybrid"])
    assert known["pre-copy"] == palette.strategy_colours(["pre-copy", "post-copy"])["pre-copy"]
    mixed = palette.strategy_colours(["pre-copy", "Mine", "Yours"])
    assert len(set(mixed.values())) == 3
    many = palette.strategy_colours([f"own-{n}" for n in range(20)])
    assert len(set(many.values())) == 7


def test_a_comparison_of_runs_that_all_failed() -> None:
    found = comparison.draw_comparison(["a", "b"], [failed(), failed()])
    assert all(each.figure is None and each.missing for each in found)


def test_many_runs_are_numbered() -> None:
    *_, against = comparison.draw_comparison([f"run {n}" for n in range(9)], [completed()] * 9)
    texts = [each["text"] for each in figure([against], "against")["data"]]
    assert texts == [[str(n)] for n in range(1, 10)]
    assert "numbers are those of the bars" in against.look


@pytest.mark.parametrize("colours", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_colours_are_legible(colours: dict[str, str]) -> None:
    marks = ("source", "dest", "stop", "full", "dirty", "drain", "final")
    for name in marks:
        assert contrast(colours[name], colours["page"]) >= 3, name
    for name in ("ink", "soft"):
        assert contrast(colours[name], colours["page"]) >= 4.5, name
        assert contrast(colours[name], colours["panel"]) >= 4.5, name
    for name in palette.WAYS:  # it is written on
        assert contrast(colours[name], colours["page"]) >= 4.5, name
    assert len({colours[name] for name in palette.WAYS}) == 7


def contrast(one: str, other: str) -> float:
    """As WCAG 2 has it."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
