"""Whether compressing pays at the moment.

The rule is of the kind that file systems use: a batch that does not become shorter by an eighth (as
ZFS asks of a block) travels as it is. `PATIENCE` of them in a row turn compression off for a while
of `FIRST_REST` batches; then one is tried. If it pays, compression is on again; if not, the next
rest is twice as long, up to `LONGEST_REST`. A migration of incompressible memory then spends on
compression about what one batch in 256 costs, and one whose first pages are the wrong ones to judge
by comes back to it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 8
SAMPLE_BYTES: Final = 2**16  # a smaller batch is not asked for: it says little about the others
FIRST_REST: Final = 16  # batches: 16 MiB of pages
LONGEST_REST: Final = 256


def pays(size: int, packed: int) -> bool:
    """Return whether `packed` bytes in place of `size` are worth the receiver's work."""
    return packed <= size - size // 8


class CompressionBackoff:
    """Asked before each batch, told after it; from any thread.

    Args:
        on_change: is called with true when compression is turned on again, with false when off.
    """

    def __init__(self, on_change: Callable[[bool], None]) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self._failures = 0  # in a row
        self._rest = FIRST_REST
        self._resting = 0  # batches that are still to go as they are
        self._on = True

    @property
    def on(self) -> bool:
        """False from the moment when it gave up until a batch has paid again."""
        return self._on

    def should_try(self) -> bool:
        """Return whether this batch should be compressed."""
        with self._lock:
            if self._on:
                return True
            if self._resting:
                self._resting -= 1
                return False
            self._resting = self._rest  # others go as they are until this one has been seen
            return True

    def record(self, paid: bool) -> None:
        """Take in what came of a batch that was tried."""
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
