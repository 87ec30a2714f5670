"""Reports as one HTML page: pure, reports in, text out.

The page holds all that it needs and asks no network for anything. It lives in `common` because a
source agent writes one on its own machine. What it is made with (plotly, jinja2) is imported when
a page is wanted, so that no other command waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pageferry.common.command_line.libraries import require

if TYPE_CHECKING:
    from pageferry.common.html.picture import Picture
    from pageferry.common.report.schema import Report

_NEEDED = ("jinja2", "plotly")


def check() -> None:
    """Before the work starts. Raises `UsageError` where a page could not be made."""
    require("an HTML page", *_NEEDED)


def render(
    reports: Sequence[Report],
    *,
    title: str,
    labels: Sequence[str],
    tables: Sequence[Mapping[str, object]] = (),
    notes: Sequence[str] = (),
    pictures: Sequence[Picture] = (),
    cases: Sequence[str] | None = None,
    simulation: bool = False,
) -> str:
    """The page of one or several runs.

    labels: one for each report. cases: of what configuration each is a run, where one was run
    several times: such runs are one bar of the comparison. tables: `title`, `columns` and `rows` of
    text, and `left`, the number of columns that are words; they come first, `notes` below them.
    pictures: of all runs together, above everything; there need be no report then. simulation:
    everything was simulated (reports say it themselves). Raises `UsageError`.
    """
    check()
    from pageferry.common.html.page import Run, make_page

    named = zip(labels, reports, labels if cases is None else cases, strict=True)
    runs = [Run(*each) for each in named]
    return make_page(
        runs, title=title, tables=tables, notes=notes, together=pictures, simulation=simulation
    )


def all_pictures(
    reports: Sequence[Report], labels: Sequence[str], cases: Sequence[str]
) -> list[tuple[str, Picture]]:
    """List what the page of these runs shows, each with the label of the run that it is of.

    Those of all runs together come first, with an empty label. Raises `UsageError`.
    """
    check()
    from pageferry.common.html import comparison, page

    together = comparison.pictures(cases, reports) if len(reports) > 1 else []
    return [("", each) for each in together] + [
        (label, picture)
        for label, report in zip(labels, reports, strict=True)
        for picture in page.pictures(report)
    ]


def render_one(report: Report) -> str:
    """The page of one run. Raises `UsageError`."""
    return render([report], title="pageferry migrate", labels=[report.strategy])
