"""`--prepage`: how many neighbours are sent with a page that somebody waits for."""

from __future__ import annotations

from typing import Final, Self

from pageferry.common.config.parsed_text import ParsedText

MOST: Final = 2**16 - 1  # as many as a request can ask for
_ADAPTIVE: Final = "adaptive"
_ADAPTIVE_ON_WIRE: Final = -1


class Prepage(ParsedText):
    """A window as it was written, and what it means.

    Args:
        text: `adaptive`, or a number from 0 to 65535.

    Attributes:
        pages: Neighbours for each page; None: as many as the guest's faults suggest.

    Raises:
        ValueError: The text is neither.
    """

    pages: int | None

    def __new__(cls, text: str) -> Self:
        """Parse the text."""
        if text != _ADAPTIVE and not (text.isascii() and text.isdigit() and int(text) <= MOST):
            raise ValueError(f"{text!r} is not a window: expected adaptive, or 0 to {MOST} pages")
        self = super().__new__(cls, text)
        self.pages = None if text == _ADAPTIVE else int(text)
        return self

    @classmethod
    def from_wire(cls, number: int) -> Self:
        """Make the window that `on_wire` was made of.

        Args:
            number: Pages; -1: adaptive.

        Returns:
            The window.

        Raises:
            ValueError: The number is out of range.
        """
        return cls(_ADAPTIVE if number == _ADAPTIVE_ON_WIRE else str(number))

    @property
    def on_wire(self) -> int:
        """Number of pages, -1 for adaptive, as a setup message and the fault handler have it."""
        return _ADAPTIVE_ON_WIRE if self.pages is None else self.pages


ADAPTIVE: Final = Prepage(_ADAPTIVE)
