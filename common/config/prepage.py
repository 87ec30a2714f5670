"""`--prepage`: how many neighbours are sent with a page that somebody waits for."""

from __future__ import annotations

from typing import Final, Self

from pageferry.common.config.parsed_text import ParsedText

MOST: Final = 2**16 - 1  # as many as a request can ask for
_ADAPTIVE: Final = "adaptive"
_ADAPTIVE_ON_WIRE: Final = -1


class Prepage(ParsedText):
    """What was written, and what it means.

    Raises:
        ValueError: for what is neither `adaptive` nor a number from 0 to 65535.

    Attributes:
        pages: neighbours a page; None: as many as the guest's faults suggest.
    """

    pages: int | None

    def __new__(cls, text: str) -> Self:
        """Parse it."""
        if text != _ADAPTIVE and not (text.isascii() and text.isdigit() and int(text) <= MOST):
            raise ValueError(f"{text!r} is not a window: expected adaptive, or 0 to {MOST} pages")
        self = super().__new__(cls, text)
        self.pages = None if text == _ADAPTIVE else int(text)
        return self

    @classmethod
    def from_wire(cls, number: int) -> Self:
        """Return what `on_wire` was made of."""
        return cls(_ADAPTIVE if number == _ADAPTIVE_ON_WIRE else str(number))

    @property
    def on_wire(self) -> int:
        """The number of pages, -1 for adaptive: in a setup, and in the fault handler's words."""
        return _ADAPTIVE_ON_WIRE if self.pages is None else self.pages


ADAPTIVE: Final = Prepage(_ADAPTIVE)
