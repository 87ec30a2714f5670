"""The map's sentences say what its data say, and change with them."""

from __future__ import annotations

import itertools
import json

import pytest

from pageferry.paper.locality.data import MapDocument, PlaceRow, places_of, to_json
from pageferry.paper.locality.picture import draw_map
from pageferry.paper.locality.points import Way
from pageferry.paper.locality.sentences import claim_sentence, path2_sentence
from pageferry.paper.locality.view import map_notes, map_sheets, quick_sheet

AXES = list(itertools.product((1, 8, 64), (1.0, 32.0), (0.5, 2.0)))


def rows(
    downtime: dict[tuple[int, float, float], float], path: int = 2, plain_ms: float = 50.0
) -> list[PlaceRow]:
    """A map where the cache's downtime ratio is given, and the total's is 0.9 everywhere."""
    out = []
    for lines, reuse, rate in AXES:
        ratio = downtime.get((lines, reuse, rate), 1.0)
        for way, down, total in (
            (Way.CACHED, 100 * ratio, 900.0),
            (Way.UNCACHED, 100.0, 1000.0),
            (Way.PRE_COPY, plain_ms, 1200.0),
        ):
            taken = None if way is Way.PRE_COPY else path
            more = 5 if way is Way.PRE_COPY else 3
            out.append(
                PlaceRow(lines, reuse, rate, 0.0, way.value, down, total, 10**8, taken, more, 3, 3)
            )
    return out


def test_it_says_in_which_corner_the_claim_holds() -> None:
    few = {(1, 32.0, 0.5): 0.3, (1, 32.0, 2.0): 0.2, (8, 32.0, 2.0): 0.4}
    said = claim_sentence(places_of(rows(few)))
    assert "for the downtime at 3 of 12" in said
    assert "no more than 8 of a page's lines and a working set of 32 × the cache or more" in said
    assert "(4 places have that)" in said
    assert "for the total time nowhere (the least is 0.90)" in said
    assert "for both at 0 of 12" in said


def test_it_changes_with_the_data() -> None:
    assert "for the downtime nowhere (the least is 1.00)" in claim_sentence(places_of(rows({})))
    assert "for the downtime at 12 of 12, and" in claim_sentence(
        places_of(rows(dict.fromkeys(AXES, 0.1)))
    )
    assert claim_sentence([]) == "Nothing has been measured."


def test_it_says_why_path_2_may_stand_still_for_longer() -> None:
    said = path2_sentence(places_of(rows({})))
    assert "Path 2 was taken at 12 of 12 measured places; at 12 of them" in said
    assert "100 ms beside 50, since there it stopped as soon as less than 10% of memory" in said
    assert "2 more rounds" in said
    assert "134 ms" in said  # a tenth of 128 MiB at 100 MB/s
    assert "at none of them" in path2_sentence(places_of(rows({}, plain_ms=200)))
    assert path2_sentence(places_of(rows({}, path=1))) == ("Path 2 was taken at no measured place.")


def test_a_difference_that_runs_show_too_is_none() -> None:
    every = [row._replace(downtime_spread=60.0) for row in rows({})]
    assert "by more than runs differ." in path2_sentence(places_of(every))
    assert "at none of them" in path2_sentence(places_of(rows({}, plain_ms=99.5)))


def test_where_path_2_used_up_its_rounds_too_the_share_is_no_cause() -> None:
    every = [row._replace(rounds=12) for row in rows({})]
    said = path2_sentence(places_of(every))
    assert said.endswith("100 ms beside 50, after as many rounds.")


def test_a_corner_that_excludes_nothing_is_not_told() -> None:
    ends = {(64, 1.0, 0.5): 0.3, (1, 32.0, 2.0): 0.3}
    assert "for the downtime at 2 of 12, and" in claim_sentence(places_of(rows(ends)))


def test_places_lack_no_way() -> None:
    every = rows({})
    assert len(places_of(every)) == 12
    assert len(places_of(every[1:])) == 11
    assert places_of(every, reads=True) == []


def test_the_document_is_read_as_it_was_written() -> None:
    document = MapDocument(
        made="2026-01-01",
        machine={"processor": "p", "cores": "2"},
        simulated=tuple(rows({})),
        measured=tuple(rows({})[:6]),
    )
    text = document.to_json()
    assert MapDocument.model_validate_json(text) == document
    assert json.loads(text)["made"] == "2026-01-01"
    assert any("2026-01-01" in note for note in map_notes(document))


def test_tables_mark_where_the_claim_is_reached() -> None:
    sheets = map_sheets(places_of(rows({(1, 32.0, 0.5): 0.3})))
    assert len(sheets) == 2  # one for each dirty rate
    assert sheets[0].columns == ("lines of a page", "1 caches", "32 caches")
    assert sheets[0].rows[0] == ("1", "1.00 0.90 1.00 (2)", "0.30* 0.90 1.00 (2)")
    against = map_sheets(places_of(rows({})), Way.PRE_COPY)[0]
    assert "pre-copy without" in against.title
    assert against.rows[0][1] == "2.00 0.75 1.00 (2)"
    beside = quick_sheet(places_of(rows({}))[:2], places_of(rows({}))[:1])
    assert beside.rows[0][4:6] == ("1.00", "1.00")
    assert beside.rows[1][4:6] == ("1.00", "–")


def test_the_picture_has_a_panel_for_each_rate_and_figure() -> None:
    places = places_of(rows({(1, 32.0, 0.5): 0.3}))
    figure = draw_map(places, places[:3]).figure
    assert figure is not None
    kinds = [each["type"] for each in figure["data"]]
    assert kinds.count("heatmap") == kinds.count("contour") == kinds.count("scatter") == 4
    assert {"xaxis", "xaxis2", "xaxis3", "xaxis4"} <= set(figure["layout"])
    circles = [each for each in figure["data"] if each["type"] == "scatter"]
    assert sum(len(each["x"]) for each in circles) == 2 * 3  # downtime and total time


@pytest.mark.parametrize("name", ["downtime_ms_ratio", "total_ms_ratio_to_pre_copy", "path"])
def test_programs_read_ratios(name: str) -> None:
    assert all(name in each for each in to_json(places_of(rows({}))))
