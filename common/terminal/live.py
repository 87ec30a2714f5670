"""What every live view has in common: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn

from pageferry.common.terminal.progress import Lines, Wish


class LiveView:
    """A view on standard error, shown while it is entered.

    The bar is drawn at most four times a second: drawing takes the interpreter lock from those that
    work.

    Args:
        wish: What the user asked for.
        *columns: Of the bar.
        expand: Whether the bar takes the whole width.
    """

    def __init__(self, wish: Wish, *columns: ProgressColumn, expand: bool = False) -> None:
        console = Console(stderr=True)
        self._lines = Lines(wish, terminal=console.is_terminal)
        self._progress = Progress(
            *columns,
            console=console,
            expand=expand,
            refresh_per_second=4,
            transient=True,
            disable=self._lines.form != "bar",
        )

    def __enter__(self) -> Self:
        self._progress.start()
        self._lines.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._lines.__exit__(kind, error, tb)
        self._progress.stop()
