"""What stale pages will cost on the wire, where they travel compressed or as deltas.

How much shorter they become is known only when they have been sent: so the last round of changed
pages says it for those that changed since. What the first round did says nothing of them, as those
pages were sent for the first time and many of them never change; until a round of changed pages has
been measured they count in full, so that a limit on the downtime is not overrun on a guess. A small
round is a poor sample and changes nothing.

What is short on the wire may be long in the making: a delta of a page takes a look at all of it.
Where that takes longer than the link does, it is what counts.
"""

from __future__ import annotations

from typing import Final

SAMPLE_BYTES: Final = 2**18  # of whole pages: less says more about single pages than about a guest


class Outlook:
    """Of one migration. `raw` bytes are what pages cost without compression and deltas."""

    def __init__(self) -> None:
        self.ratio = 1.0
        self._work_s = 0.0  # a raw byte

    def told(self, raw: int, sent: int, work_s: float) -> None:
        """A round of changed pages put `sent` bytes on the wire and took so much work.

        work_s: seconds, of all threads that share it, one after another.
        """
        if raw >= SAMPLE_BYTES:
            self.ratio = sent / raw
            self._work_s = work_s / raw

    def told_work(self, raw: int, work_s: float) -> None:
        """The first round: what it was sent as says nothing, but how long that took does."""
        if raw >= SAMPLE_BYTES:
            self._work_s = work_s / raw

    def scaled(self, raw: int) -> int:
        """Bytes on the wire."""
        return round(raw * self.ratio)

    def beyond_s(self, raw: int, bandwidth_Bps: float) -> float:
        """How much longer they take to make than to send."""
        sending_s = self.scaled(raw) / bandwidth_Bps if bandwidth_Bps > 0 else 0.0
        return max(raw * self._work_s - sending_s, 0.0)
