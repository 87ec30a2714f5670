"""How wide the terminal is taken to be: as it or the environment says, where that can be true."""

from __future__ import annotations

import os
from typing import Final

_NARROWEST: Final = 40  # columns; tables and help fall apart below
_WIDEST: Final = 4096


def settle_terminal() -> None:
    """Make `COLUMNS` and `LINES` values that rich and cyclopts can draw with.

    They take these two as they stand: with 0 columns they print nothing, or fail. A terminal that
    is narrower than `_NARROWEST` breaks lines itself, and those can still be read.
    """
    for name, least in (("COLUMNS", _NARROWEST), ("LINES", 1)):
        text = os.environ.get(name)
        if text is not None and not _is_within(text, least):
            del os.environ[name]
    if "COLUMNS" not in os.environ and 0 < _columns() < _NARROWEST:
        os.environ["COLUMNS"] = str(_NARROWEST)


def _is_within(text: str, least: int) -> bool:
    """Tell whether a text is a number within these bounds."""
    digits = text.isascii() and text.isdigit() and len(text) < 10
    return digits and least <= int(text) <= _WIDEST


def _columns() -> int:
    """Ask the terminal for its width; 0: there is none, or it does not know."""
    for fd in (1, 2):
        try:
            return os.get_terminal_size(fd).columns
        except OSError:
            continue
    return 0
