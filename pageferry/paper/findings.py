"""What the reproduction found: rows next to the paper's, and the cache's effect.

Pure: a finished (or interrupted) series and its plan in, tables and figures out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pageferry.common.units import format_rate, format_size
from pageferry.paper import published
from pageferry.paper.experiment import ExperimentCell, Setting
from pageferry.runs import tables
from pageferry.runs.rows import SummaryRow, ratio, summarise
from pageferry.runs.series import Series


@dataclass(frozen=True, slots=True)
class Result:
    """A cell of the experiment and what its runs came to.

    Attributes:
        cell: What was run.
        row: Medians and spread of its runs.
        hits: Of the cache at both hosts, in all completed runs together.
        misses: As `hits`.
        changed: The share of pages that were dirty after the first round, in the first run that has
            one; None where no run has.
    """

    cell: ExperimentCell
    row: SummaryRow
    hits: int
    misses: int
    changed: float | None


@dataclass(frozen=True, slots=True)
class Effect:
    """The cache's effect on the I/O load at one rate: ratios of medians, with it / without it.

    Attributes:
        rate: Of the link, bytes/s.
        compared: What with what.
        downtime: None where there is nothing to compare.
        total: As `downtime`, of the total time.
        bytes: As `downtime`, of the bytes on the wire.
        claimed: The paper's ratio of downtimes; None where it claims none.
    """

    rate: float
    compared: str
    downtime: float | None
    total: float | None
    bytes: float | None
    claimed: float | None

    def to_json(self) -> dict[str, object]:
        """Convert to what the document has.

        Returns:
            Values by the names of fields.
        """
        return asdict(self)


def experiment_results(done: Series, cells: Sequence[ExperimentCell]) -> list[Result]:
    """Make a result for each cell of which at least one run has ended.

    Args:
        done: The series; its cases are those of the cells.
        cells: In the series' order.

    Returns:
        The results, in the same order.
    """
    results = []
    for index, cell in enumerate(cells):
        attempts = done.of_case(index)
        if not attempts:
            continue
        row = summarise(cell.case.label, {}, attempts, done.report_places(index))
        reports = done.completed_reports(index)
        caches = [report.cache for report in reports if report.cache is not None]
        shares = [report.rounds[0].dirty_ratio_after for report in reports if report.rounds]
        results.append(
            Result(
                cell,
                row,
                hits=sum(each.hits for each in caches),
                misses=sum(each.misses for each in caches),
                changed=shares[0] if shares else None,
            )
        )
    return results


def _find(
    results: Sequence[Result], like: ExperimentCell, *, strategy: str, cached: bool
) -> SummaryRow | None:
    """Find the row of the same load at the same rate that moved in this way."""
    for result in results:
        cell = result.cell
        same = cell.load is like.load and cell.rate == like.rate and cell.example is None
        if same and cell.strategy == strategy and cell.cached == cached:
            return result.row
    return None


def effects(results: Sequence[Result]) -> list[Effect]:
    """Compute what the cache did to the I/O load: as the paper compares, and by itself.

    Args:
        results: Of all cells.

    Returns:
        Two for each rate, as far as what they compare has been run.
    """
    out = []
    for result in results:
        cell, row = result.cell, result.row
        if cell.load is not published.IO or not cell.cached:
            continue
        for strategy, compared, claimed in (
            ("pre-copy", "three-path with the cache / pre-copy without", published.CLAIMED_RATIO),
            ("three-path", "three-path with the cache / the same without", None),
        ):
            other = _find(results, cell, strategy=strategy, cached=False)
            if other is not None:
                effect = Effect(
                    cell.rate,
                    compared,
                    downtime=ratio(row, other, "downtime_ms"),
                    total=ratio(row, other, "total_time_ms"),
                    bytes=ratio(row, other, "bytes_on_wire"),
                    claimed=claimed,
                )
                out.append(effect)
    return out


def to_json(result: Result, results: Sequence[Result], setting: Setting) -> dict[str, Any]:
    """Convert a result to a row of the document's table.

    Args:
        result: What is converted.
        results: All of them: ratios are to the same load's row without the cache.
        setting: Its scale divides the paper's times.

    Returns:
        What JSON can say, by name.
    """
    cell, printed = result.cell, result.cell.printed
    baseline = None
    if cell.example is None:
        baseline = _find(results, cell, strategy="pre-copy", cached=False)
    out: dict[str, Any] = {
        "part": "example" if cell.example else "experiment",
        "rate": cell.rate,
        "workload": cell.case.config.workload,
        "strategy": cell.strategy,
        "cache": cell.case.config.cache,
        "changed_in_round_1": result.changed,
        **result.row.to_json(baseline),
    }
    if cell.example:
        return out | {"section": cell.example.section, "paper_path": cell.example.path}
    return out | {
        "paper_source": printed.source if printed else None,
        "paper_path": printed.path if printed else None,
        "paper_rounds": printed.rounds if printed else None,
        "paper_downtime_ms": printed.downtime_ms / setting.scale if printed else None,
        "paper_total_time_ms": printed.total_ms / setting.scale if printed else None,
        "downtime_to_paper": _to_paper(result, "downtime_ms", setting),
        "total_time_to_paper": _to_paper(result, "total_time_ms", setting),
    }


def _to_paper(result: Result, figure: str, setting: Setting) -> float | None:
    printed, ours = result.cell.printed, result.row.median(figure)
    if printed is None or ours is None:
        return None
    theirs = printed.downtime_ms if figure == "downtime_ms" else printed.total_ms
    return ours * setting.scale / theirs


def sheets(results: Sequence[Result], setting: Setting) -> list[tables.Sheet]:
    """Make a table for each rate, for the cache's effect, and for the worked examples.

    Args:
        results: Of all cells.
        setting: What was asked for.

    Returns:
        The tables that have rows.
    """
    out = [_measured(results, rate, setting) for rate in setting.rates]
    out += [_effect_sheet(effects(results)), _examples(results, setting)]
    return [sheet for sheet in out if sheet.rows]


def _size(setting: Setting) -> str:
    return f"{format_size(setting.memory)} guest, {format_size(setting.cache)} cache"


def _measured(results: Sequence[Result], rate: float, setting: Setting) -> tables.Sheet:
    scaled = "" if setting.scale == 1 else f" / {setting.scale}"
    return tables.Sheet(
        title=f"The paper's experiment: {_size(setting)}, link of {format_rate(rate)}",
        columns=(
            *("load", "strategy", "cache", "path", "paper", "rounds", "paper"),
            *("downtime ms", f"paper{scaled}", "ratio", "total ms", f"paper{scaled}", "ratio"),
            *("wire", "verified"),
        ),
        rows=tuple(
            _measured_row(each, setting)
            for each in results
            if each.cell.load is not None and each.cell.rate == rate
        ),
        left=3,
    )


def _measured_row(result: Result, setting: Setting) -> tuple[str, ...]:
    cell, row, printed = result.cell, result.row, result.cell.printed
    none, scale = tables.NOTHING, setting.scale

    def said(value: float | None) -> str:
        return none if value is None else tables.three_digits(value / scale)

    return (
        cell.load.name if cell.load else none,
        cell.strategy,
        "yes" if cell.cached else "no",
        tables.path(row),
        str(printed.path) if printed and printed.path else none,
        tables.rounds_text(row),
        str(printed.rounds) if printed and printed.rounds else none,
        tables.figure(row, "downtime_ms"),
        said(printed.downtime_ms if printed else None),
        tables.factor(_to_paper(result, "downtime_ms", setting)),
        tables.figure(row, "total_time_ms"),
        said(printed.total_ms if printed else None),
        tables.factor(_to_paper(result, "total_time_ms", setting)),
        tables.figure(row, "bytes_on_wire"),
        tables.verified(row),
    )


def _effect_sheet(found: Sequence[Effect]) -> tables.Sheet:
    return tables.Sheet(
        title="What the cache did to the I/O load: ratios with / without",
        columns=("link", "compared", "downtime", "total time", "bytes", "the paper's claim"),
        rows=tuple(
            (
                format_rate(each.rate),
                each.compared,
                tables.factor(each.downtime),
                tables.factor(each.total),
                tables.factor(each.bytes),
                tables.factor(each.claimed),
            )
            for each in found
        ),
        left=2,
    )


def _examples(results: Sequence[Result], setting: Setting) -> tables.Sheet:
    return tables.Sheet(
        title=(
            f"The paper's worked examples: {_size(setting)},"
            f" link of {format_rate(setting.rates[0])}"
        ),
        columns=(
            *("section", "workload", "changed in round 1", "path", "expected", "rounds"),
            *("downtime ms", "total ms", "wire", "verified"),
        ),
        rows=tuple(
            (
                each.cell.example.section,
                each.cell.example.workload,
                tables.NOTHING if each.changed is None else tables.percent(each.changed),
                tables.path(each.row),
                str(each.cell.example.path),
                tables.rounds_text(each.row),
                tables.figure(each.row, "downtime_ms"),
                tables.figure(each.row, "total_time_ms"),
                tables.figure(each.row, "bytes_on_wire"),
                tables.verified(each.row),
            )
            for each in results
            if each.cell.example is not None
        ),
        left=2,
    )
