"""What a pair says of an agent that was killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pageferry.common.config.model import MigrationConfig
from pageferry.pair import Pair


class _Dest:
    def __init__(self, *said: str) -> None:
        self._said = said

    def finish(self, *, patience_s: float) -> None:
        """Nothing: it has ended."""

    def status(self) -> Iterator[tuple[str, str]]:
        return ((key, "session") for key in self._said)


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (("listening",), 4, "its guest ended with it"),
        (("listening", "resumed"), 4, "the guest is lost"),
        (("listening", "resumed", "whole"), 3, "the guest has moved to the destination"),
    ],
)
def test_where_the_guest_was_is_what_the_destination_said(
    said: tuple[str, ...], code: int, words: str, cancelled: bool
) -> None:
    """A signal that came before does not make it a cancellation: its guest is gone."""
    pair = Pair(MigrationConfig(), None)
    pair._dest = _Dest(*said)  # type: ignore[assignment]
    pair._cancelled = cancelled
    exit_code, error = pair._source_was_killed("SIGKILL")
    assert exit_code == code
    assert "SIGKILL" in error
    assert words in error
