"""What stale pages will cost on the wire, where they travel compressed or as deltas.

How much shorter pages become is known only when they have been sent. So the last round of changed
pages stands for those that have changed since. The first round says nothing about them, as it sent
those pages for the first time and many of them never change. Until a round of changed pages has
been measured they count in full, so that a limit on the downtime is not overrun on a guess. A small
round is a poor sample and changes nothing.

What is short on the wire may take long to make: a delta of a page looks at all of it. So the last
round also says how long its pages took, and where that is longer than the link takes for their
bytes, it is what counts. In the stop they take less time than in a round, in which the guest runs
and uses processors itself, and more than the CPU time alone, as others may run, too: the plan is
half way between the two.
"""

from __future__ import annotations

from typing import Final

SAMPLE_BYTES: Final = 2**18  # of whole pages: fewer say more about single pages than about a guest


class TransferCost:
    """What stale pages cost in bytes and in time, of one migration.

    `raw` bytes are what pages cost without compression and deltas.

    Attributes:
        ratio: Bytes on the wire by raw bytes; 1 until a round has been measured.
    """

    def __init__(self) -> None:
        self.ratio = 1.0
        self._raw_s = 0.0  # per raw byte

    def update(self, raw: int, sent: int, seconds: float, cpu_s: float) -> None:
        """Take in a round of changed pages; one of less than `SAMPLE_BYTES` is ignored.

        Args:
            raw: Bytes that its pages cost without compression and deltas.
            sent: Bytes that it put on the wire.
            seconds: How long the round took to send.
            cpu_s: CPU seconds that it took to make its pages shorter.
        """
        if raw >= SAMPLE_BYTES:
            self.ratio = sent / raw
            self._raw_s = (seconds + min(cpu_s, seconds)) / 2 / raw

    def wire_bytes(self, raw: int) -> int:
        """Return how many bytes are expected on the wire.

        Args:
            raw: What the pages cost without compression and deltas.

        Returns:
            The raw bytes, scaled by `ratio`.
        """
        return round(raw * self.ratio)

    def extra_encode_s(self, raw: int, bandwidth_Bps: float) -> float:
        """Return how much longer pages take to make than the link takes for their bytes.

        Args:
            raw: What the pages cost without compression and deltas.
            bandwidth_Bps: What the link carries, bytes/s; 0: its time does not count.

        Returns:
            Seconds, 0 where the link is the slower of the two.
        """
        link_s = self.wire_bytes(raw) / bandwidth_Bps if bandwidth_Bps > 0 else 0.0
        return max(raw * self._raw_s - link_s, 0.0)
