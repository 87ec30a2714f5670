"""Whether compressing pays at the moment.

The rule is of the kind that file systems use. A batch that does not become shorter by an eighth (as
ZFS asks of a block) travels as it is. After `PATIENCE` of them in a row, compression is off for
`FIRST_REST` batches; then one is tried. If it pays, compression is on again; if not, the next rest
is twice as long, up to `LONGEST_REST`. So a migration of incompressible memory spends on
compression about what one batch in 256 costs, and a migration whose first pages are not typical of
the others returns to compressing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 8
SAMPLE_BYTES: Final = 2**16  # a smaller batch is not judged: it says little about the others
FIRST_REST: Final = 16  # batches: 16 MiB of pages
LONGEST_REST: Final = 256


def pays(size: int, packed: int) -> bool:
    """Return whether compressing is worth the receiver's work.

    Args:
        size: Bytes of the payload as it is.
        packed: Bytes of the payload compressed.

    Returns:
        Whether at least an eighth is saved.
    """
    return packed <= size - size // 8


class CompressionBackoff:
    """Is asked before each batch and told after it, from any thread.

    Args:
        on_change: Is called with True when compression is turned on again, with False when off; on
            the thread that told it of the batch.
    """

    def __init__(self, on_change: Callable[[bool], None]) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self._failures = 0  # in a row
        self._rest = FIRST_REST
        self._resting = 0  # batches that are still sent as they are
        self._on = True

    @property
    def on(self) -> bool:
        """False from the moment at which it gave up until a batch has paid again."""
        return self._on

    def should_try(self) -> bool:
        """Return whether the next batch should be compressed.

        Returns:
            True: compress it, and `record` what came of it. False: it counts as a part of a rest.
        """
        with self._lock:
            if self._on:
                return True
            if self._resting:
                self._resting -= 1
                return False
            self._resting = self._rest  # others go as they are until this one's result is known
            return True

    def record(self, paid: bool) -> None:
        """Take in what came of a batch that was tried.

        Args:
            paid: Whether it became short enough.
        """
        with self._lock:
            was_on = self._on
            if paid:
                self._failures, self._rest, self._resting, self._on = 0, FIRST_REST, 0, True
            elif was_on:
                self._failures += 1
                if self._failures >= PATIENCE:
                    self._on, self._resting = False, self._rest
            else:
                self._rest = min(2 * self._rest, LONGEST_REST)
                self._resting = self._rest
            changed = self._on != was_on
        if changed:
            self._on_change(self._on)
