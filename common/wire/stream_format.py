"""How a session's pages travel, as both ends agreed on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pageferry.common.config.model import MigrationConfig
from pageferry.common.wire.messages import Setup
from pageferry.common.wire.packing import Codec, codec_of


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """What frames of pages are like; by default the plainest.

    Attributes:
        checksum: Frames have one, on bulk and urgent connections, in both directions.
        codec: Of compressed frames; None: there are none.
        deltas: Pages may travel as what has changed in them.
        by_line: The written lines of a page may travel alone; the destination takes them anyway.
    """

    checksum: bool = False
    codec: Codec | None = None
    deltas: bool = False
    by_line: bool = False

    @classmethod
    def from_config(cls, config: MigrationConfig) -> Self:
        """Return what a source is to send.

        Args:
            config: As asked for at the source.

        Returns:
            The format, `by_line` as `config.travels_by_line`.
        """
        codec, deltas = codec_of(config.compress), config.delta != "none"
        return cls(config.checksum, codec, deltas, config.travels_by_line)

    @classmethod
    def from_setup(cls, setup: Setup) -> Self:
        """Return what a source has announced.

        Args:
            setup: As the destination received it.

        Returns:
            The format; `by_line`, which is not announced, stays False.
        """
        return cls(setup.checksum, codec_of(setup.compress), setup.delta != "none")
