"""What stale pages will cost on the wire, where they travel compressed or as deltas.

How much shorter they become is known only when they have been sent: so the last round of changed
pages says it for those that changed since. What the first round did says nothing of them, as those
pages were sent for the first time and many of them never change; until a round of changed pages has
been measured they count in full, so that a limit on the downtime is not overrun on a guess. A small
round is a poor sample and changes nothing.

What is short on the wire may be long in the making: a delta of a page takes a look at all of it. So
the last round says, too, how long its pages took, and where that is longer than the link takes for
their bytes, it is what counts. In the stop they take less than in a round, in which the guest runs
and takes processors for itself, and more than the processor time alone, as others may run, too:
half way between the two is what is planned with.
"""

from __future__ import annotations

from typing import Final

SAMPLE_BYTES: Final = 2**18  # of whole pages: less says more about single pages than about a guest


class TransferCost:
    """What stale pages cost in bytes and in time, of one migration.

    `raw` bytes are what pages cost without compression and deltas.

    Attributes:
        ratio: what is left of them on the wire.
    """

    def __init__(self) -> None:
        self.ratio = 1.0
        self._raw_s = 0.0  # a raw byte

    def update(self, raw: int, sent: int, seconds: float, cpu_s: float) -> None:
        """Take in a round of changed pages.

        Args:
            raw: what they cost without compression and deltas.
            sent: bytes that they put on the wire.
            seconds: that the round took in all.
            cpu_s: seconds of processors that it took to make them shorter.
        """
        if raw >= SAMPLE_BYTES:
            self.ratio = sent / raw
            self._raw_s = (seconds + min(cpu_s, seconds)) / 2 / raw

    def wire_bytes(self, raw: int) -> int:
        """Return what is expected on the wire."""
        return round(raw * self.ratio)

    def extra_encode_s(self, raw: int, bandwidth_Bps: float) -> float:
        """Return how much longer they take to make than the link takes for their bytes."""
        link_s = self.wire_bytes(raw) / bandwidth_Bps if bandwidth_Bps > 0 else 0.0
        return max(raw * self._raw_s - link_s, 0.0)
