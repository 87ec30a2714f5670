"""`pageferry report`: results that were written as JSON, as a table or as one HTML page."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from cyclopts import Parameter
from pydantic import ValidationError

from pageferry.common.config.model import MigrationConfig, first_fault
from pageferry.common.errors import EXIT_OK, UsageError
from pageferry.common.files.input_files import STDIN, cut, parse_json, read_file
from pageferry.common.files.report_files import ReportFile, need_folder, refuse_stdout
from pageferry.common.report.latency_histogram import damage
from pageferry.common.report.schema import Report
from pageferry.common.units import figures
from pageferry.runs import picture_files
from pageferry.runs.document import SeriesDocument, SheetDocument
from pageferry.runs.tables import NOTHING

_Document = TypeVar("_Document", Report, SeriesDocument)
_SCHEMA: Final = 1
_SERIES: Final = ("runs", "table")
_MOST_BYTES: Final = 1 << 28  # a series of traced runs may have a tenth of it


@dataclass
class Gathered:
    """What is shown, in the order of the files. beside: they are not all of one series."""

    reports: list[Report] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    sheets: list[SheetDocument] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    beside: bool = False


def report(
    *results: Annotated[
        Path,
        Parameter(help="what --json has written; -: standard input", allow_leading_hyphen=True),
    ],
    html: Annotated[str | None, Parameter(help="write one HTML page to this FILE instead")] = None,
    pictures: Annotated[
        Path | None,
        Parameter(name="--pictures", help="write each picture as SVG and PNG into this DIR"),
    ] = None,
    force: Annotated[bool, Parameter(negative="", help="overwrite files that exist")] = False,
) -> int:
    """Show results that were written with --json: the table of one, the comparison of several.

    RESULT.json is a report of migrate, source, move or simulate, or what compare or reproduce have
    written. With --html it is one self-contained page with pictures, which opens without a network;
    with --pictures each picture is a file, for a paper or a talk: that needs a Chrome or Chromium.
    """
    if not results:
        raise UsageError("report needs at least one RESULT.json, as --json has written it")
    if unknown := [
        str(each) for each in results if str(each).startswith("-") and len(each.name) > 1
    ]:
        raise UsageError(f"report has no option {unknown[0]} (--help lists what there is)")
    if html is None and pictures is None:
        if force:
            raise UsageError(
                "--force overwrites files: it means nothing without --html or --pictures"
            )
        try:
            print_results(gather(list(results)))
        except OverflowError:
            raise UsageError(_too_large(results)) from None
        return EXIT_OK
    if pictures is not None:
        need_folder(pictures, "--pictures")
        picture_files.check()
    if html is not None:
        _write_page(list(results), html, force=force)
    if pictures is not None:
        _write_pictures(list(results), pictures, force=force)
    return EXIT_OK


def print_results(found: Gathered) -> None:
    """The result's table, or what its series printed; of several results, their comparison.

    And what is damaged in them, though they can be read.
    """
    from pageferry.runs.tables import print_text, wide_console

    _print_tables(found)
    for label, report in zip(found.labels, found.reports, strict=True):
        if report.postcopy is not None and (what := damage(report.postcopy)):
            print_text(wide_console(), f"{label}: how long faults took can't be read: {what}")


def _print_tables(found: Gathered) -> None:
    from pageferry.commands.compare import comparison
    from pageferry.common.html.words import made as made_line
    from pageferry.common.terminal.console import result_table
    from pageferry.runs.tables import Sheet, print_text, wide_console

    console = wide_console()
    if len(found.reports) == 1 and not found.sheets:
        report = found.reports[0]
        console.print(result_table(report))
        if made := made_line(report):
            print_text(console, made)
        return
    for sheet in found.sheets:
        rows = tuple(tuple(row) for row in sheet.rows)
        Sheet(sheet.title, tuple(sheet.columns), rows, sheet.left).print(console)
    notes = list(found.notes)
    if found.beside:
        table, more = comparison(found.labels, found.reports)
        table.print(console)
        notes += [note for note in more if note not in notes]
    for note in notes:
        print_text(console, note)


def _write_page(results: list[Path], html: str, *, force: bool) -> None:
    from pageferry.common.html import check, render

    refuse_stdout(html)
    for result in results:
        if os.path.realpath(result) == os.path.realpath(html):
            raise UsageError(f"--html: {html} is one of the results: expected another file")
    check()
    found = gather(results)
    with ReportFile(html, "--html", "the page", force=force) as file:
        try:
            page = render(
                found.reports,
                title=_title(results),
                labels=found.labels,
                cases=found.cases,
                tables=[sheet.model_dump() for sheet in found.sheets],
                notes=found.notes,
            )
        except OverflowError:
            raise UsageError(_too_large(results)) from None
        file.write(page)


def _write_pictures(results: list[Path], folder: Path, *, force: bool) -> None:
    from pageferry.common.html import all_pictures

    found = gather(results)
    try:
        named = all_pictures(found.reports, found.labels, found.cases)
        files = picture_files.write_pictures(folder, named, force=force)
    except OverflowError:
        raise UsageError(_too_large(results)) from None
    if not files:
        raise UsageError("--pictures: there is nothing to draw: no run has moved its guest")
    print(f"{len(files) // len(picture_files.FORMATS)} pictures as SVG and PNG in {folder}")


def _too_large(results: Sequence[Path]) -> str:
    return f"{', '.join(said(result) for result in results)}: a number is too large to be drawn"


def gather(results: list[Path]) -> Gathered:
    """Read them all. Raises `UsageError`."""
    out = Gathered(beside=len(results) > 1)
    stems = [Path(said(result)).stem for result in results]
    names = Counter(stems)
    for result, stem in zip(results, stems, strict=True):
        name = stem if names[stem] == 1 else said(result)
        document = read_result(result)
        if isinstance(document, Report):
            out.reports.append(document)
            out.labels.append(name)
            out.cases.append(name)
            continue
        before = f"{name}: " if len(results) > 1 else ""
        labels, cases = labels_of(document)
        out.reports += document.runs
        out.labels += [before + label for label in labels]
        out.cases += [before + case for case in cases]
        out.sheets += document.sheets or plain_sheets(name, document.table)
        out.notes += [note for note in document.notes if note not in out.notes]
    return out


def read_result(file: Path) -> Report | SeriesDocument:
    """A report, or a series of them. Raises `UsageError` with a line that names the file."""
    return parse_result(read_file(file, _MOST_BYTES, stdin=True), said(file))


def said(file: Path) -> str:
    """What a file is called in what is said of it."""
    return "standard input" if str(file) == STDIN else str(file)


def parse_result(raw: bytes, file: str) -> Report | SeriesDocument:
    """The same, of what is in a file; file: what it is called."""
    data = parse_json(raw, file)
    if not isinstance(data, dict):
        raise UsageError(f"{file} is no result of pageferry: expected a JSON object")
    version = data.get("schema_version")
    if version != _SCHEMA or isinstance(version, bool):
        told = "no schema_version" if version is None else f"schema_version {cut(repr(version))}"
        raise UsageError(f"{file} has {told}: expected {_SCHEMA}")
    if "outcome" not in data and not any(key in data for key in _SERIES):
        raise UsageError(
            f"{file} is no report of a migration: expected what migrate, source, compare or"
            " reproduce write with --json"
        )
    if not any(key in data for key in _SERIES):
        report = _checked(file, Report, data)
        _check_config(file, "config", report.config)
        return report
    fields = SeriesDocument.model_fields  # `reproduce` says more than this
    document = _checked(file, SeriesDocument, {k: v for k, v in data.items() if k in fields})
    if not document.runs and not document.table:
        raise UsageError(f"{file} has no runs: expected at least one")
    for place, run in enumerate(document.runs):
        _check_config(file, f"runs.{place}.config", run.config)
    return document


def _check_config(file: str, where: str, config: dict[str, Any]) -> None:
    """Raises `UsageError` where an option has what none can have: others are said as they are."""
    for name, option in MigrationConfig.model_fields.items():
        value = config.get(name)
        several = isinstance(option.default, tuple)
        if value is None or (isinstance(value, str | int | float) and not several):
            continue
        if not several or not isinstance(value, list) or not all(isinstance(e, str) for e in value):
            expected = "a list of texts" if several else "one value"
            raise UsageError(f"{file}: {where}.{name}: {cut(repr(value))}: expected {expected}")


def _checked(file: str, model: type[_Document], data: dict[str, Any]) -> _Document:
    try:
        return model.model_validate(data, strict=True)  # a text of digits is no number
    except ValidationError as error:
        first, message = first_fault(error)
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{file}: {cut(where)}: {cut(message)}") from None


def labels_of(document: SeriesDocument) -> tuple[list[str], list[str]]:
    """Name each run, and the case that it is a run of, as its row of the table does.

    One without a row is called by its strategy and its place, and is a case of its own.
    """
    labels = [f"{run.strategy}, run {place}" for place, run in enumerate(document.runs, 1)]
    cases = list(labels)
    for row in document.table:
        places = row.get("runs")
        label = row.get("label")
        if not isinstance(places, list) or not isinstance(label, str):
            continue
        known = [p for p in places if isinstance(p, int) and 0 <= p < len(labels)]
        for number, place in enumerate(known, 1):
            labels[place] = label if len(known) == 1 else f"{label}, run {number}"
            cases[place] = label
    return labels, cases


def plain_sheets(name: str, table: list[dict[str, Any]]) -> list[SheetDocument]:
    """The table of a document that does not say how it was printed: what is short in its rows."""
    columns = [
        key
        for key in dict.fromkeys(key for row in table for key in row)
        if not any(isinstance(row.get(key), (list, dict)) for row in table)
    ]
    if not columns:
        return []
    rows = [[_cell(row.get(column)) for column in columns] for row in table]
    headings = [column.replace("_", " ") for column in columns]
    return [SheetDocument(title=name, columns=headings, rows=rows)]


def _cell(value: object) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return figures(value, 4) if isinstance(value, float) else str(value)


def _title(results: list[Path]) -> str:
    return Path(said(results[0])).stem if len(results) == 1 else f"{len(results)} results"
