"""Real programs at the map's place: what ships of them, and how they are drawn."""

from __future__ import annotations

from typing import Any

import pytest

from pageferry.common.config.guest import GuestConfig
from pageferry.common.files.memory_trace import open_trace
from pageferry.common.workload.mixes import MIXES
from pageferry.common.workload.registry import WORKLOADS
from pageferry.paper.locality.data import places_of
from pageferry.paper.locality.picture import draw_map, map_pictures
from pageferry.paper.locality.points import CACHE, RATES
from pageferry.paper.locality.program_marks import draw_programs, program_marks
from pageferry.paper.locality.programs import ProgramPlace, WrittenSet, nearest, shipped_programs
from pageferry.paper.locality.view import program_sheet
from pageferry.paper.shipped import shipped_map
from pageferry.sim.workloads import working_set
from pageferry.trace.written import written_within
from scripts.docs_workloads import JUDGED
from scripts.trace_programs import EXTRACT, EXTRACT_WINDOWS, EXTRACTS, WINDOWS, sets_of
from scripts.traced_programs import PROGRAMS, Program

SHIPPED = shipped_programs().places
TRACED = [each for each in SHIPPED if each.kind == "program"]
GUESTS = [each for each in SHIPPED if each.kind == "guest"]
PLACES = places_of(shipped_map().simulated)
PAGES = CACHE // 4096  # of a working set of one cache


def named(each: ProgramPlace) -> str:
    return f"{each.name}-{each.kind}"


def traces(figure: dict[str, Any] | None, mode: str) -> list[dict[str, Any]]:
    assert figure is not None
    return [each for each in figure["data"] if each.get("mode") == mode]


def test_six_programs_or_more_and_all_guests() -> None:
    assert [(each.name, each.load, each.skipped) for each in TRACED] == [
        (each.name, each.load, each.skip) for each in PROGRAMS
    ]
    assert len(TRACED) >= 6
    assert {each.name for each in GUESTS} == set(MIXES)


def test_nobody_s_machine_is_named() -> None:
    found = shipped_programs()
    assert set(found.machine) >= {"processor", "cores", "kernel"}
    assert found.valgrind.startswith("valgrind-")
    assert "/" not in "".join(each.version for each in TRACED)


@pytest.mark.parametrize("each", SHIPPED, ids=named)
def test_longer_windows_write_no_fewer_pages(each: ProgramPlace) -> None:
    assert len(each.sets) >= 3
    assert [at.window for at in each.sets] == sorted({at.window for at in each.sets})
    assert [at.pages for at in each.sets] == sorted(at.pages for at in each.sets)
    assert all(1 <= at.median_lines <= 64 and 1 <= at.lines <= 64 for at in each.sets)


@pytest.mark.parametrize("each", TRACED, ids=named)
def test_of_a_program_all_windows_are_known(each: ProgramPlace) -> None:
    assert tuple(at.window for at in each.sets) == WINDOWS
    assert all(at.pages <= (at.pages_touched or 0) for at in each.sets)
    assert 0.02 < (each.writes or 0) < 0.6
    assert (each.writes_per_line or 0) >= 1
    assert each.version


def test_a_guest_s_shortest_window_is_its_mixture() -> None:
    for each in GUESTS:
        assert each.sets[0].pages == sum(MIXES[each.name].pages)
        assert each.sets[0].lines == pytest.approx(MIXES[each.name].mean, abs=0.01)
        assert each.sets[0].median_lines == MIXES[each.name].median


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_an_extract_says_what_is_stored_of_it(program: Program) -> None:
    trace = open_trace(str(EXTRACTS / f"{program.name}.npz"))
    trace.verify()
    assert trace.meta.accesses == EXTRACT
    (stored,) = [each for each in TRACED if each.name == program.name]
    seen = [written_within(trace.accesses, length) for length in EXTRACT_WINDOWS]
    assert sets_of(seen) == stored.extract


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_an_extract_is_a_load(program: Program) -> None:
    workload = f"trace:{EXTRACTS / program.name}.npz,rate=40MB/s"
    config = GuestConfig.model_validate({"workload": workload, "memory": "16MiB"})
    guest, _ = working_set(config, by_line=True)
    (stored,) = [each for each in TRACED if each.name == program.name]
    assert guest.stale(0.0, 10.0).pages == pytest.approx(stored.extract[-1].pages, rel=0.01)


def test_extracts_are_small() -> None:
    assert sum(file.stat().st_size for file in EXTRACTS.glob("*.npz")) < 600_000


def test_a_working_set_is_settled_where_twice_the_window_writes_hardly_more() -> None:
    sets = [WrittenSet(window=n, pages=100, lines=1, median_lines=1) for n in (1, 2)]
    place = TRACED[0].model_copy(update={"sets": tuple(sets)})
    assert place.settled
    grown = (sets[0], sets[1].model_copy(update={"pages": 111.0}))
    assert not place.model_copy(update={"sets": grown}).settled


@pytest.mark.parametrize(
    ("pages", "lines", "there"),
    [
        (4.1 * PAGES, 15.0, (16, 4.0)),
        (0.01 * PAGES, 3.0, (4, 0.125)),
        (500 * PAGES, 64.0, (64, 32.0)),
    ],
)
def test_the_nearest_place_of_each_rate(
    pages: float, lines: float, there: tuple[int, float]
) -> None:
    at = WrittenSet(window=1, pages=pages, lines=lines, median_lines=1)
    near = nearest(PLACES, at)
    assert [(each.point.lines, each.point.reuse) for each in near] == [there] * len(RATES)
    assert [each.point.rate for each in near] == list(RATES)


def test_each_is_in_every_panel() -> None:
    figure = draw_map(PLACES, [], SHIPPED).figure
    paths = traces(figure, "lines+markers")
    assert len({each["xaxis"] for each in paths}) == len(paths) == 2 * len(RATES)
    assert {each["x"].count(None) for each in paths} == {len(TRACED)}
    marks = [each for each in traces(figure, "markers") if "symbol" in each["marker"]]
    shapes = [(each["marker"]["symbol"], len(each["x"])) for each in marks]
    assert shapes == [("diamond", len(TRACED)), ("line-ew", len(GUESTS))] * len(paths)
    assert "redis (guest), within 100 ms: 1,220 pages written" in str(marks[1]["customdata"])


def test_a_map_without_programs_has_no_marks() -> None:
    assert program_marks([], 1) == []
    assert traces(draw_map(PLACES, []).figure, "lines+markers") == []
    assert [each.key for each in map_pictures(shipped_map())] == ["map", "programs"]


def test_each_is_named_once() -> None:
    figure = draw_programs(PLACES, SHIPPED, 0.5).figure
    assert figure is not None
    names = [each["text"] for each in figure["layout"]["annotations"]]
    assert names == [each.name for each in SHIPPED]


def test_the_table_has_a_row_for_each() -> None:
    sheet = program_sheet(PLACES, SHIPPED)
    assert [row[0] for row in sheet.rows] == [f"{each.name} ({each.kind})" for each in SHIPPED]
    assert {len(row) for row in sheet.rows} == {len(sheet.columns)}
    assert sheet.rows[-1][3:6] == ("44.0 (64) → 56.6 (64)", "3.4 → 21+", "–")


def test_every_named_workload_is_judged() -> None:
    assert set(JUDGED) == {name for name, spec in WORKLOADS.items() if spec.complete}
