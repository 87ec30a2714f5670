"""What a pair says of an agent that was killed."""

from __future__ import annotations

from common.config import MigrationConfig
from common.errors import EXIT_CANCELLED
from lab.pair import Pair


class _Dest:
    def finish(self, *, patience_s: float) -> None:
        """Nothing: it has ended."""


def test_a_source_that_knew_no_signals_yet_had_nothing_to_lose() -> None:
    pair = Pair(MigrationConfig(), None)
    pair._dest = _Dest()  # type: ignore[assignment]
    pair._cancelled = True
    error, code = pair._source_was_killed("SIGINT")
    assert code == EXIT_CANCELLED
    assert error == "cancelled before the migration began"
    assert "SIGKILL" in pair._source_was_killed("SIGKILL")[0]
