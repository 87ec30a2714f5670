"""`pageferry reproduce --ablate`: what each mechanism does by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pageferry.common.capacity.agents import check_some_pair
from pageferry.common.command_line.run import OutputOptions
from pageferry.common.files.report_files import ReportFiles
from pageferry.common.process.notices import print_error
from pageferry.common.process.status import StatusPipe
from pageferry.paper import ablation
from pageferry.paper.ablation import Ablation, Switches
from pageferry.paper.locality.measure import figures_of
from pageferry.paper.locality.points import RUN_S
from pageferry.paper.locality.sentences import mechanism_sentence
from pageferry.paper.locality.view import ablation_sheets
from pageferry.paper.machine import describe_machine, today
from pageferry.runs import tables
from pageferry.runs.document import SeriesDocument, SheetDocument, render_series
from pageferry.runs.series import Case, Series, Signals, announce, run_series


class AblationResult(SeriesDocument):
    """What `reproduce --ablate --json` writes.

    All but the reports is null where not all combinations have run.

    Attributes:
        ablation: The values of all combinations, one for each seed.
        effects: What single switches, pairs and all three save, by figure.
        predicted: By figure: of each seed, what the other seeds' effects give for its saving as a
            share of the whole, and what was measured.
    """

    ablation: dict[str, Any] | None = None
    effects: dict[str, Any] | None = None
    predicted: dict[str, list[tuple[float, float]]] | None = None


def reproduce_ablation(output: OutputOptions, pipe: StatusPipe | None) -> int:
    """Run every combination of the three mechanisms with four seeds, and print what each does.

    Args:
        output: Where results and progress go.
        pipe: Of a supervisor; None without one.

    Returns:
        The exit code: 130 after Ctrl-C, else that of the worst run.

    Raises:
        UsageError: There is no room for the guests, or a file can't be written.
    """
    chosen = [(on, seed) for seed in ablation.SEEDS for on in ablation.distinct()]
    cases = [
        Case(f"{ablation.label(on)}, seed {seed}", ablation.config_for(on, seed))
        for on, seed in chosen
    ]
    check_some_pair(case.config for case in cases)
    with Signals() as signals, ReportFiles(output) as files:
        announce(len(cases), RUN_S * len(cases), output)
        done = run_series(cases, 1, output, signals, pipe)
        _write(done, _ablation(done, chosen), files, table=output.json_file != "-")
    if done.interrupted:
        print_error(done.interruption)
    return done.exit_code


def _ablation(done: Series, chosen: Sequence[tuple[Switches, int]]) -> Ablation | None:
    """Put the figures of all combinations together; None where one is missing."""
    values: dict[Switches, dict[str, list[float]]] = {}
    for index, (on, _) in enumerate(chosen):
        runs = done.completed_reports(index)
        if not runs:
            return None
        figures = figures_of(runs[0])
        for name in ablation.FIGURES:
            values.setdefault(on, {}).setdefault(name, []).append(getattr(figures, name))
    return Ablation(
        made=today(),
        machine=describe_machine(),
        workload=ablation.GUEST.workload,
        runs=tuple(
            (tuple(sorted(on)), {name: tuple(each) for name, each in figures.items()})
            for on, figures in values.items()
        ),
    )


def _write(done: Series, found: Ablation | None, files: ReportFiles, *, table: bool) -> None:
    document = AblationResult(runs=done.reports, table=[], interrupted=done.interrupted)
    sheets: list[tables.Sheet] = []
    if found is not None:
        effects = ablation.effects(found)
        sheets = ablation_sheets(found, effects)
        document.notes = [mechanism_sentence(effects), *ablation.notes(found)]
        document.sheets = SheetDocument.of(sheets)
        document.ablation = found.model_dump(mode="json")
        document.effects = ablation.to_json(effects)
        document.predicted = ablation.predictions(found)
    title = "pageferry reproduce --ablate"
    files.write(
        document.to_json, lambda: render_series(document, title, done.labels, done.case_labels)
    )
    if table:
        tables.print_sheets(sheets, notes=document.notes)
