"""How a session's pages travel, as both ends agreed on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pageferry.common.config.model import MigrationConfig
from pageferry.common.wire.messages import Setup
from pageferry.common.wire.packing import Codec, codec_of


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """What frames of pages are like; without anything, the plainest.

    Attributes:
        checksum: frames have one, on bulk and urgent connections, in both directions.
        codec: of compressed frames; None: there are none.
        deltas: pages may travel as what has changed in them.
        by_line: so may the lines of a page that were written; the destination takes them anyway.
    """

    checksum: bool = False
    codec: Codec | None = None
    deltas: bool = False
    by_line: bool = False

    @classmethod
    def from_config(cls, config: MigrationConfig) -> Self:
        """Return what a source is to send."""
        codec, deltas = codec_of(config.compress), config.delta != "none"
        return cls(config.checksum, codec, deltas, config.travels_by_line)

    @classmethod
    def from_setup(cls, setup: Setup) -> Self:
        """Return what a source has announced."""
        return cls(setup.checksum, codec_of(setup.compress), setup.delta != "none")
