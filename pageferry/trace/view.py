"""What `pageferry trace` shows: progress of an import, and what a trace consists of."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, TextColumn

from pageferry.common.files.memory_trace import TraceMeta
from pageferry.common.terminal.live import LiveView
from pageferry.common.terminal.progress import Wish
from pageferry.common.units import LINE_SIZE, PAGE_SIZE, human_bytes
from pageferry.runs import tables

if TYPE_CHECKING:
    from pageferry.trace.importer import Imported, TraceText
    from pageferry.trace.stats import TraceStats

_EVERY_S: Final = 0.25
_LEGEND: Final = (
    "pages: touched in this part. written: written to in it. new: touched by no earlier part."
    " The replay starts again after the last."
)


class ImportView(LiveView):
    """The progress of an import.

    Args:
        text: What is imported.
        wish: What the user has asked for.
    """

    def __init__(self, text: TraceText, wish: Wish) -> None:
        super().__init__(
            wish,
            TextColumn("[bold]{task.description:<16}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}"),
        )
        self._text = text
        self._task = self._progress.add_task("reading", total=text.size, detail="")
        self._shown = 0.0

    def show(self, accesses: int, total: int | None) -> None:
        """Show this moment, at most four times a second.

        Args:
            accesses: How many have been taken so far, or been renumbered.
            total: Of the accesses; None as long as the text is being read.
        """
        now = time.monotonic()
        if now - self._shown < _EVERY_S:
            return
        self._shown = now
        phase = "reading" if total is None else "numbering pages"
        figures = {
            "accesses": accesses,
            "accesses_expected": total,
            "text_bytes": self._text.taken,
            "text_bytes_expected": self._text.size,
        }
        words = f"{phase} · {accesses / 1e6:,.1f} million accesses"
        self._lines.show(words, phase, figures)
        self._progress.update(
            self._task,
            description=phase,
            total=self._text.size if total is None else total,
            completed=self._text.taken if total is None else accesses,
            detail=f"{accesses / 1e6:,.1f} million accesses",
        )


def print_import(file: str, done: Imported) -> None:
    """Print what was made of a text, and how to use it.

    Args:
        file: The trace's name.
        done: What has become of the text.
    """
    meta = done.meta
    left = "" if meta.instructions else " left out"
    text = f"{done.lines:,} lines, {done.fetches:,} instruction fetches{left}"
    if done.unknown:
        text += f", {done.unknown:,} unknown lines skipped"
    if done.trailing:
        text += f", {done.trailing:,} accesses with something behind them, which was left out"
    if done.processes > 1:
        text += f", of {done.processes:,} processes that were taken for one"
    console = tables.wide_console()
    _print_upright(console, file, [*_meta_rows(meta), ("text", text)])
    tables.print_text(
        console, f"Replay it: pageferry migrate --workload {shlex.quote(f'trace:{file}')}"
    )


def print_info(file: str, meta: TraceMeta, stats: TraceStats, *, verified: bool) -> None:
    """Print a trace, its working set over time, and its hottest pages.

    Args:
        file: The trace's name.
        meta: What its file says.
        stats: What was counted.
        verified: Whether the digest was checked.
    """
    console = tables.wide_console()
    rows = _meta_rows(meta)
    rows[-1] = ("digest", f"{meta.digest} ({'verified' if verified else 'not verified'})")
    touched = stats.lines * LINE_SIZE
    rows += [
        ("touched", f"{stats.lines:,} lines of 64 bytes ({human_bytes(touched)})"),
        ("written", f"{stats.pages_written:,} pages ({_share(stats.pages_written, meta.pages)})"),
    ]
    _print_upright(console, file, rows)
    tables.Sheet(
        title="Working set over time",
        columns=("part", "accesses", "writes", "pages", "written", "new"),
        rows=tuple(
            (
                f"{number}/{len(stats.parts)}",
                f"{part.accesses:,}",
                _share(part.writes, part.accesses),
                f"{part.pages:,}",
                f"{part.pages_written:,}",
                f"{part.new_pages:,}",
            )
            for number, part in enumerate(stats.parts, 1)
        ),
    ).print(console)
    tables.print_text(console, _LEGEND + "\n")
    tables.Sheet(
        title="Hottest pages",
        columns=("page", "accesses", "of all", "writes"),
        rows=tuple(
            (
                f"{page.page:,}",
                f"{page.accesses:,}",
                tables.percent(page.share),
                _share(page.writes, page.accesses),
            )
            for page in stats.hottest
        ),
    ).print(console)


def _meta_rows(meta: TraceMeta) -> list[tuple[str, str]]:
    return [
        ("source", meta.source if meta.source.isprintable() else ascii(meta.source)),
        (
            "accesses",
            f"{meta.accesses:,}: {meta.reads:,} reads, {meta.writes:,} writes"
            f" ({_share(meta.writes, meta.accesses)})",
        ),
        ("instructions", "among the reads" if meta.instructions else "not included"),
        ("footprint", f"{meta.pages:,} pages ({human_bytes(meta.pages * PAGE_SIZE)})"),
        ("digest", meta.digest),
    ]


def _print_upright(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text as RichText

    table = Table(title=RichText(title), show_header=False, title_justify="left", pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows:
        table.add_row(name, RichText(value))
    console.print(table)


def _share(part: int, whole: int) -> str:
    return tables.percent(part / whole)
