"""`pageferry report`: results that were written as JSON, as a table or as one HTML page."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pageferry.common.errors import EXIT_OK, UsageError
from pageferry.common.files.report_files import ReportFile, need_folder, refuse_stdout
from pageferry.common.report.latency_histogram import damage
from pageferry.common.report.schema import Report
from pageferry.runs import picture_files
from pageferry.runs.document import SheetDocument
from pageferry.runs.results import file_label, labels_of, plain_sheets, read_result


@dataclass
class Gathered:
    """What is shown, in the order of the files.

    Attributes:
        reports: Every run's report.
        labels: One for each report.
        cases: For each report, the case that it is a run of.
        sheets: Tables as the commands printed them, or plain ones where a file does not say how.
        notes: Remarks below them, each once.
        beside: Whether there were several files, so that their runs are compared.
    """

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
    schema: Annotated[
        bool, Parameter(negative="", help="print the JSON Schema of a report, and do nothing else")
    ] = False,
) -> int:
    """Show results that were written with --json: the table of one, the comparison of several.

    RESULT.json is a report of migrate, source, move or simulate, or what compare or reproduce have
    written. With --html it is one self-contained page with pictures, which opens without a network;
    with --pictures each picture is a file, for a paper or a talk: that needs a Chrome or Chromium.

    Args:
        results: The files; `-` is standard input.
        html: File for the page; None prints tables instead, unless there are `pictures`.
        pictures: Folder for the pictures; None makes none.
        force: Whether files that exist are overwritten.
        schema: Print the JSON Schema of a report; nothing else may be given.

    Returns:
        The exit code, 0.
    """
    if schema:
        return _print_schema(alone=not (results or html or pictures or force))
    _check_names(results)
    if html is None and pictures is None:
        return _print(results, force=force)
    if pictures is not None:
        need_folder(pictures, "--pictures")
        picture_files.check_picture_libraries()
    if html is not None:
        _write_page(list(results), html, force=force)
    if pictures is not None:
        _write_pictures(list(results), pictures, force=force)
    return EXIT_OK


def _print(results: tuple[Path, ...], *, force: bool) -> int:
    """Print the tables."""
    if force:
        raise UsageError("--force overwrites files: it means nothing without --html or --pictures")
    try:
        print_results(read_results(list(results)))
    except OverflowError:
        raise UsageError(_too_large(results)) from None
    return EXIT_OK


def _check_names(results: tuple[Path, ...]) -> None:
    """Raise `UsageError` where there is none, or one that was meant as an option."""
    if not results:
        raise UsageError("report needs at least one RESULT.json, as --json has written it")
    words = [str(each) for each in results if str(each).startswith("-") and len(each.name) > 1]
    if words:
        raise UsageError(f"report has no option {words[0]} (--help lists what there is)")


def _print_schema(*, alone: bool) -> int:
    from pageferry.common.report.published import schema_text

    if not alone:
        raise UsageError("--schema is of every report: expected nothing else beside it")
    print(schema_text(), end="")
    return EXIT_OK


def print_results(found: Gathered) -> None:
    """Print the table of one result, or what its series printed; of several, their comparison.

    Where a report's fault latencies are damaged, that is said, too.

    Args:
        found: What `read_results` has read.
    """
    from pageferry.runs.tables import print_text, wide_console

    _print_tables(found)
    for label, report in zip(found.labels, found.reports, strict=True):
        if report.postcopy is not None and (what := damage(report.postcopy)):
            print_text(wide_console(), f"{label}: how long faults took can't be read: {what}")


def _print_tables(found: Gathered) -> None:
    from pageferry.common.html.sentences import made as made_line
    from pageferry.common.terminal.console import result_table
    from pageferry.runs.comparison import compare_results
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
        table, more = compare_results(found.labels, found.reports)
        table.print(console)
        notes += [note for note in more if note not in notes]
    for note in notes:
        print_text(console, note)


def _write_page(results: list[Path], html: str, *, force: bool) -> None:
    from pageferry.common.html import check_libraries, render

    refuse_stdout(html)
    for result in results:
        if os.path.realpath(result) == os.path.realpath(html):
            raise UsageError(f"--html: {html} is one of the results: expected another file")
    check_libraries()
    found = read_results(results)
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

    found = read_results(results)
    try:
        named = all_pictures(found.reports, found.labels, found.cases)
        files = picture_files.write_pictures(folder, named, force=force)
    except OverflowError:
        raise UsageError(_too_large(results)) from None
    if not files:
        raise UsageError("--pictures: there is nothing to draw: no run has moved its guest")
    print(f"{len(files) // len(picture_files.FORMATS)} pictures as SVG and PNG in {folder}")


def _too_large(results: Sequence[Path]) -> str:
    return (
        f"{', '.join(file_label(result) for result in results)}: a number is too large to be drawn"
    )


def read_results(results: list[Path]) -> Gathered:
    """Read all results.

    Args:
        results: The files; `-` is standard input.

    Returns:
        What they hold, in the same order.

    Raises:
        UsageError: One cannot be read, or is no result.
    """
    out = Gathered(beside=len(results) > 1)
    stems = [Path(file_label(result)).stem for result in results]
    names = Counter(stems)
    for result, stem in zip(results, stems, strict=True):
        name = stem if names[stem] == 1 else file_label(result)
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


def _title(results: list[Path]) -> str:
    return Path(file_label(results[0])).stem if len(results) == 1 else f"{len(results)} results"
