"""Post-copy and lazy copy: resume at the destination first, move memory afterwards."""

from __future__ import annotations

from typing import ClassVar

from pageferry.common.errors import LocalProtocolError
from pageferry.common.strategy.base import (
    Decision,
    RoundStats,
    Strategy,
    SwitchToPostCopy,
    register,
)


@register
class PostCopy(Strategy):
    """Hands over at once; pages are pushed in the background, and pulled where one is missing."""

    name: ClassVar[str] = "post-copy"

    def first_decision(self) -> Decision:
        """Switch at once.

        Returns:
            The switch.
        """
        return SwitchToPostCopy("the guest runs at the destination first, its memory follows")

    def next_decision(self, stats: RoundStats) -> Decision:
        """Refuse: no round was ordered.

        Args:
            stats: Of a round that should not have been.

        Returns:
            Never.

        Raises:
            LocalProtocolError: Always.
        """
        raise LocalProtocolError(f"{self.name} has no rounds, but round {stats.index} came")


@register
class LazyCopy(Strategy):
    """Hands over at once; a page is moved when the guest needs it, and only then."""

    name: ClassVar[str] = "lazy-copy"

    def first_decision(self) -> Decision:
        """Switch at once, without pushing pages.

        Returns:
            The switch.
        """
        return SwitchToPostCopy("only what the guest touches is moved, when it does", push=False)

    def next_decision(self, stats: RoundStats) -> Decision:
        """Refuse: no round was ordered.

        Args:
            stats: Of a round that should not have been.

        Returns:
            Never.

        Raises:
            LocalProtocolError: Always.
        """
        raise LocalProtocolError(f"{self.name} has no rounds, but round {stats.index} came")
