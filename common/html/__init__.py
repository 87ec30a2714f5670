"""Reports as one HTML page: pure, reports in, text out.

The page holds everything it needs and asks no network for anything. It lives in `common` because a
source agent writes one on its own machine. What it is made with (plotly, jinja2) is imported only
when a page is wanted, so that no other command waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pageferry.common.command_line.libraries import require_library

if TYPE_CHECKING:
    from pageferry.common.html.picture import Picture
    from pageferry.common.report.schema import Report

_NEEDED = ("jinja2", "plotly")


def check_libraries() -> None:
    """Check, before the work starts, that a page can be made.

    Raises:
        UsageError: A library is missing; the message says how to install it.
    """
    require_library("an HTML page", *_NEEDED)


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
    """Make the page of any number of runs.

    Args:
        reports: Of the runs. There may be none where there are `pictures`.
        title: Of a page of several runs, or of none; a single run is named after what was run.
        labels: One for each report.
        tables: Mappings of `title`, `columns`, `rows` of text, and `left`, the number of columns
            that are words. They come first.
        notes: Sentences below the tables.
        pictures: Of all runs together, above everything else.
        cases: For each report, the configuration that it is a run of, where one was run several
            times: such runs are one bar of the comparison. None: the labels.
        simulation: Whether everything was simulated, where no report can say it.

    Returns:
        An HTML document.

    Raises:
        UsageError: A library is missing.
    """
    check_libraries()
    from pageferry.common.html.page import PageRun, make_page

    named = zip(labels, reports, labels if cases is None else cases, strict=True)
    runs = [PageRun(*each) for each in named]
    return make_page(
        runs, title=title, tables=tables, notes=notes, together=pictures, simulation=simulation
    )


def all_pictures(
    reports: Sequence[Report], labels: Sequence[str], cases: Sequence[str]
) -> list[tuple[str, Picture]]:
    """List what the page of these runs shows.

    Args:
        reports: Of the runs.
        labels: One for each report.
        cases: For each report, the configuration that it is a run of.

    Returns:
        (label of the run, picture). Those of all runs together come first, with an empty label.

    Raises:
        UsageError: A library is missing.
    """
    check_libraries()
    from pageferry.common.html import comparison, page

    together = comparison.draw_comparison(cases, reports) if len(reports) > 1 else []
    return [("", each) for each in together] + [
        (label, picture)
        for label, report in zip(labels, reports, strict=True)
        for picture in page.draw_run(report)
    ]


def render_one(report: Report) -> str:
    """Make the page of one run.

    Args:
        report: Of the run.

    Returns:
        An HTML document.

    Raises:
        UsageError: A library is missing.
    """
    return render([report], title="pageferry migrate", labels=[report.strategy])
