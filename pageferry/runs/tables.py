"""Cells of tables for people, and the columns that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pageferry.common.report.summary import loss
from pageferry.common.units import human_bytes
from pageferry.runs.rows import Spread, SummaryRow, ratio

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NOTHING: Final = "–"
_WIDE: Final = 240  # columns of a file or a pipe: no table is wider
_TEXT: Final = 100  # columns of a paragraph


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table as plain text.

    Attributes:
        title: What stands above it.
        columns: The headings.
        rows: Texts, one for each column.
        left: How many of its columns are words; the rest are figures.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1

    def to_html(self) -> dict[str, Any]:
        """Convert the table to what the HTML report takes.

        Returns:
            `title`, `columns`, `rows` and `left`.
        """
        rows = [list(row) for row in self.rows]
        columns = list(self.columns)
        return {"title": self.title, "columns": columns, "rows": rows, "left": self.left}

    def print(self, console: Console) -> None:
        """Print the table, on its side where it is too wide for the terminal.

        Args:
            console: The terminal, file or pipe.
        """
        from rich.measure import Measurement

        table = self.to_rich()
        unbounded = console.options.update(width=1000)
        if Measurement.get(console, unbounded, table).maximum > console.width:
            table = self.turned().to_rich()
        console.print(table)

    def turned(self) -> Sheet:
        """Turn columns into rows.

        Returns:
            A table whose headings are the first column of this one.
        """
        first, *rest = zip(self.columns, *self.rows, strict=True)
        return Sheet(self.title, first, tuple(rest))

    def to_rich(self) -> Table:
        """Convert the table to what a terminal shows.

        Returns:
            A table of rich; markup in the texts has no meaning.
        """
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=Text(self.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
        )
        for number, column in enumerate(self.columns):
            words = number < self.left
            table.add_column(Text(column), justify="left" if words else "right", no_wrap=words)
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        return table


def wide_console() -> Console:
    """Make a console of standard output; a file or a pipe gets room for a wide table.

    Returns:
        As wide as the terminal, or 240 columns.
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDE
    return Console(file=sys.stdout, highlight=False, width=width)


def print_text(console: Console, text: str) -> None:
    """Print a paragraph, at most 100 columns wide.

    Args:
        console: The terminal, file or pipe.
        text: Markup in it has no meaning.
    """
    console.print(text, markup=False, width=min(console.width, _TEXT))


def print_notes(console: Console, notes: Sequence[str]) -> None:
    """Print numbered remarks.

    Args:
        console: The terminal, file or pipe.
        notes: A paragraph each.
    """
    for number, note in enumerate(notes, 1):
        print_text(console, f"Note {number}. {note}")


def print_sheets(
    sheets: Iterable[Sheet], *, lines: Iterable[str] = (), notes: Sequence[str] = ()
) -> None:
    """Print tables, and what is said of them, to standard output.

    Args:
        sheets: The tables.
        lines: A paragraph each, below the tables.
        notes: Numbered remarks, below those.
    """
    console = wide_console()
    for sheet in sheets:
        sheet.print(console)
    for line in lines:
        print_text(console, line)
    print_notes(console, notes)


def three_digits(value: float) -> str:
    """Write a number with three digits or more: `3.79`, `41.2`, `1,026`.

    Args:
        value: Milliseconds, which the text does not say.

    Returns:
        The number.
    """
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}"


def percent(value: float) -> str:
    """Write a share: `7.3 %`.

    Args:
        value: 1 is all.

    Returns:
        One decimal place, and the sign.
    """
    return f"{100 * value:.1f} %"


def factor(value: float | None) -> str:
    """Write a ratio: `0.400`, `12.3`, `1,234`.

    Args:
        value: None if there is no ratio.

    Returns:
        Three digits or more; `–` for None.
    """
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def spread_text(figures: Spread | None, text_of: Callable[[float], str], *, several: bool) -> str:
    """Write the median, and below it `least–greatest` where there were several runs.

    Args:
        figures: None where no run has the figure.
        text_of: Writes one number.
        several: Whether there were several runs.

    Returns:
        One line or two; `–` for None.
    """
    if figures is None:
        return NOTHING
    text = text_of(figures.median)
    if several:
        low, high = text_of(figures.least), text_of(figures.greatest)
        number, _, unit = low.partition(" ")
        if unit and high.endswith(f" {unit}"):
            low = number
        text += f"\n{low}–{high}"
    return text


def figure(row: SummaryRow, name: str) -> str:
    """Write one of `rows.FIGURES` with its spread.

    Args:
        row: Of the case.
        name: Of the figure.

    Returns:
        One line or two.
    """
    text_of = {"bytes_on_wire": human_bytes, "guest_slowdown": loss}.get(name, three_digits)
    return spread_text(row.figures[name], text_of, several=row.completed > 1)


def figure_ratio(row: SummaryRow, baseline: SummaryRow | None, name: str) -> str:
    """Write the ratio of a figure to the baseline's.

    Args:
        row: Of the case.
        baseline: What it is compared with; None: nothing.
        name: Of the figure.

    Returns:
        A ratio of medians, or `–`.
    """
    return NOTHING if baseline is None else factor(ratio(row, baseline, name))


def path(row: SummaryRow) -> str:
    """Write the path that was taken: `2`, or `1, 2` where runs differ.

    Args:
        row: Of the case.

    Returns:
        The paths in order; `–` where the strategy has none.
    """
    taken = sorted({number for number in row.paths if number is not None})
    return ", ".join(str(number) for number in taken) or NOTHING


def rounds_text(row: SummaryRow) -> str:
    """Write how many rounds there were: `11`, or `11 (9)` where 9 of them drained the cache.

    Args:
        row: Of the case.

    Returns:
        A number, or a range where runs differ; `–` where none completed.
    """
    if not row.rounds:
        return NOTHING
    text = _range(row.rounds)
    return f"{text} ({_range(row.drains)})" if max(row.drains) else text


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


def verified(row: SummaryRow) -> str:
    """Write whether every guest arrived as it had left, or how many runs failed.

    Args:
        row: Of the case.

    Returns:
        `yes`, `NO`, `–` where nothing was verified; `FAILED` where a run did not complete.
    """
    if row.completed < row.runs:
        failed = row.runs - row.completed
        return "FAILED" if row.runs == 1 else f"{failed} of {row.runs} FAILED"
    return {True: "yes", False: "NO", None: NOTHING}[row.verified]


def complaints(rows: Sequence[SummaryRow]) -> list[str]:
    """List what went wrong.

    Args:
        rows: Of all cases.

    Returns:
        One line for each error, with its case's label.
    """
    return [f"{row.label}: {error}" for row in rows for error in row.errors]
