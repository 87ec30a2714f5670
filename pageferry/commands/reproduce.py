"""`pageferry reproduce`: the paper's experiment, measured beside what the paper printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from cyclopts import Parameter
from pydantic import Field, model_validator

from pageferry.commands.reproduce_ablation import reproduce_ablation
from pageferry.commands.reproduce_map import (
    quick_cases,
    quick_places,
    reproduce_map,
)
from pageferry.commands.reproduce_shipped import (
    reproduce_shipped,
    shipped_map_document,
    shipped_map_lines,
)
from pageferry.common.capacity.agents import check_some_pair
from pageferry.common.command_line.options import Options
from pageferry.common.command_line.run import OutputOptions
from pageferry.common.errors import UsageError
from pageferry.common.files.report_files import ReportFiles
from pageferry.common.process.notices import print_error
from pageferry.common.process.status import StatusPipe
from pageferry.common.units import format_rate, parse_rate
from pageferry.paper import findings, published
from pageferry.paper import notes as remarks
from pageferry.paper.experiment import (
    QUICK_SCALE,
    ExperimentCell,
    Setting,
    estimate_s,
    experiment_cells,
)
from pageferry.paper.locality.data import places_of
from pageferry.paper.locality.data import to_json as places_to_json
from pageferry.paper.locality.picture import map_pictures
from pageferry.paper.locality.points import RUN_S
from pageferry.paper.locality.view import document_sheets, quick_sheet
from pageferry.paper.machine import describe_machine, today
from pageferry.paper.shipped import shipped_map, shipped_sentences
from pageferry.runs import tables
from pageferry.runs.document import SeriesDocument, SheetDocument, render_series
from pageferry.runs.series import Series, Signals, announce, run_series

# What is done in place of the tables.
_INSTEAD: Final = ("map", "ablate", "shipped")
_RATES: Final = (published.PRINTED_RATE_Bps, published.LIKELY_RATE_Bps)


class ReproduceOptions(Options):
    """What is run, and how often."""

    quick: Annotated[
        bool,
        Parameter(negative=""),
        Field(
            description=f"a guest and a cache of 1/{QUICK_SCALE} the size, at 100MB/s only, and six"
            " places of the map, which hand over by stop-and-copy"
        ),
    ] = False
    rates: Annotated[
        str | None,
        Field(description="RATEs of the link, by commas [default: 100MB/s,100mbit]"),
    ] = None
    runs: Annotated[
        int, Field(ge=1, le=1000, description="runs of each row, in turn: medians and spread")
    ] = 1
    path3: Annotated[
        Literal["stop-and-copy", "post-copy"],
        Field(description="how path 3, and a path 2 out of rounds, hands over"),
    ] = "post-copy"
    seed: Annotated[
        int, Field(ge=0, le=2**63 - 1, description="seed of the guest's memory and workload")
    ] = 1
    verify: Annotated[
        bool, Field(description="replay the guest at the source and compare digests")
    ] = True
    examples: Annotated[
        bool, Field(description="the paper's worked examples, too, over the first link")
    ] = True
    map: Annotated[
        Path | None,
        Parameter(name="--map"),
        Field(
            description="instead, measure over which locality the cache pays, into this FOLDER; one"
            " that was begun is continued (an hour and a half)"
        ),
    ] = None
    ablate: Annotated[
        bool,
        Parameter(negative=""),
        Field(
            description="instead, switch cache, held write-backs and lines on and off, all"
            " combinations, and say what each does"
        ),
    ] = False

    shipped: Annotated[
        bool,
        Parameter(negative=""),
        Field(
            description="instead, run nothing: print the tables, the map and the ablation that come"
            " with this version"
        ),
    ] = False

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        """Refuse options that the map, the ablation or what is shipped would not look at."""
        chosen = [name for name in _INSTEAD if getattr(self, name)]
        given = sorted(self.model_fields_set - set(_INSTEAD))
        if len(chosen) > 1:
            raise ValueError(f"--{chosen[0]} and --{chosen[1]} exclude one another")
        if chosen and given:
            name = given[0].replace("_", "-")
            raise ValueError(f"--{name} is not for --{chosen[0]}, where nothing can be chosen")
        return self


class ReproduceDocument(SeriesDocument):
    """What `reproduce --json` writes.

    Attributes:
        scale: Memory and cache are 1/scale of the paper's, and so are the paper's times in `table`.
        cache_effect: Ratios of the I/O load, with the cache / without.
        locality: The remark on locality with its figures; null where there is none.
        places: Of the map, with `--quick`: paths and ratios, the cache with / without.
        made: The day, ISO 8601.
        machine: What it was measured on.
        shipped_map: The map that comes with this version: when and on what it was measured, and its
            measured places.
        sentences: What that map and the shipped ablation say.
    """

    scale: int
    cache_effect: list[dict[str, object]]
    locality: dict[str, object] | None
    places: list[dict[str, object]] = Field(default_factory=list)
    made: str
    machine: dict[str, str]
    shipped_map: dict[str, Any]
    sentences: list[str]


def reproduce(
    *,
    options: Annotated[ReproduceOptions | None, Parameter(name="*")] = None,
    output: Annotated[OutputOptions | None, Parameter(name="*")] = None,
    status_fd: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Run the paper's experiment, and print what is measured beside what the paper printed.

    A 512 MiB guest with a 4 MiB cache under three loads, at 100 MB/s and at 100 Mbit/s, each with
    the cache and without; and the paper's three worked examples. It takes a while: the estimate
    comes first. Ctrl-C ends it and prints what has finished.

    Below that it prints, from the results that come with this version, over which locality the
    cache pays, and why. With --map that is measured instead, with --ablate what part each mechanism
    has in it, and with --shipped nothing: all results that come with this version are printed.

    Args:
        options: What is run, and how often; None is all of it, once.
        output: Where results and progress go; None is the terminal only.
        status_fd: Descriptor on which progress is written as JSON lines; None is none.

    Returns:
        The exit code: 130 after Ctrl-C, else that of the worst run.

    Raises:
        UsageError: An option is wrong, this machine has room for none of the runs, or a file cannot
            be written.
    """
    options, output = options or ReproduceOptions(), output or OutputOptions()
    pipe = StatusPipe(status_fd) if status_fd is not None else None
    if options.map is not None:
        return reproduce_map(options.map, output, pipe)
    if options.ablate:
        return reproduce_ablation(output, pipe)
    if options.shipped:
        return reproduce_shipped(output)
    setting = _setting(options)
    cells = experiment_cells(setting)
    places = quick_cases(setting) if options.quick else []
    check_some_pair(case.config for case in (*(cell.case for cell in cells), *places))
    with Signals() as signals, ReportFiles(output) as files:
        seconds = estimate_s(cells, options.runs) + RUN_S * len(places) * options.runs
        announce((len(cells) + len(places)) * options.runs, seconds, output)
        cases = [*(cell.case for cell in cells), *places]
        done = run_series(cases, options.runs, output, signals, pipe)
        _write(done, cells, setting, files, table=output.json_file != "-")
    if done.interrupted:
        print_error(done.interruption)
    return done.exit_code


def _setting(options: ReproduceOptions) -> Setting:
    rates: tuple[float, ...] = _RATES[:1] if options.quick else _RATES
    if options.rates is not None:
        try:
            rates = tuple(parse_rate(text.strip()) for text in options.rates.split(","))
        except ValueError as error:
            raise UsageError(f"--rates: {error}") from None
        if len(set(rates)) < len(rates):
            raise UsageError(f"--rates: {options.rates} has one rate twice")
    return Setting(
        rates,
        scale=QUICK_SCALE if options.quick else 1,
        seed=options.seed,
        path3=options.path3,
        verify=options.verify,
        examples=options.examples,
    )


def _write(
    done: Series, cells: list[ExperimentCell], setting: Setting, files: ReportFiles, *, table: bool
) -> None:
    results = findings.experiment_results(done, cells)
    sheets = findings.sheets(results, setting)
    places = quick_places(done, len(cells))
    if places:
        sheets.append(quick_sheet(places, places_of(shipped_map().measured)))
    effects = findings.effects(results)
    locality = remarks.locality(results, setting)
    notes = remarks.remarks(setting, locality)
    document = ReproduceDocument(
        runs=done.reports,
        table=[findings.to_json(result, results, setting) for result in results],
        interrupted=done.interrupted,
        scale=setting.scale,
        cache_effect=[effect.to_json() for effect in effects],
        locality=locality.to_json() if locality else None,
        sheets=SheetDocument.of(sheets),
        notes=notes,
        places=places_to_json(places),
        made=today(),
        machine=describe_machine(),
        shipped_map=shipped_map_document(),
        sentences=shipped_sentences(),
    )
    title = f"pageferry reproduce: {', '.join(map(format_rate, setting.rates))}"
    files.write(document.to_json, lambda: _page(document, title, done))
    if table and results:
        wrong = tables.complaints([result.row for result in results])
        tables.print_sheets(sheets, lines=wrong, notes=notes)
        tables.print_sheets(document_sheets(shipped_map()), lines=shipped_map_lines())


def _page(document: ReproduceDocument, title: str, done: Series) -> str:
    """Make the page: of what was run, with the shipped map above it."""
    page = document.model_copy()
    page.sheets = [*document.sheets, *SheetDocument.of(document_sheets(shipped_map()))]
    page.notes = [*document.notes, *shipped_map_lines()]
    pictures = map_pictures(shipped_map())
    return render_series(page, title, done.labels, done.case_labels, pictures=pictures)
