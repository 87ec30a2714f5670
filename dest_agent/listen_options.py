"""Options of whatever listens for guests, and what follows from them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

from pageferry.common.command_line.options import Options
from pageferry.common.config.fields import Size, StallTimeout
from pageferry.common.units import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from pageferry.dest_agent.agent import DestAgent


class ListenOptions(Options):
    """Who may connect, and how much of this host they get."""

    max_memory: Annotated[
        Size | None,
        Field(
            ge=PAGE_SIZE,
            description="SIZE of all guests together, caches included; none: what is free",
        ),
    ] = None
    max_sessions: Annotated[
        int, Field(ge=1, le=64, description="migrations at a time; one more is refused")
    ] = 4
    stall_timeout: StallTimeout = 30.0
    tls: Annotated[
        Path | None,
        Field(description="take sources of our CA only, over TLS 1.3, with this folder's keys"),
    ] = None
    insecure: Annotated[
        bool,
        Parameter(negative=""),
        Field(description="listen beyond loopback without TLS: for a network that you trust"),
    ] = False

    def server(self) -> ssl.SSLContext | None:
        """Load the TLS credentials for connections that come in.

        Returns:
            None without `--tls`: plain TCP.

        Raises:
            UsageError: The folder's keys or certificates can't be used.
        """
        from pageferry.common.wire.tls_credentials import server_tls

        return server_tls(self.tls) if self.tls is not None else None

    def bind(self, agent: DestAgent, address: tuple[str, int]) -> list[tuple[str, int]]:
        """Have an agent listen.

        Without `--tls` and `--insecure`, only addresses of the loopback interface are taken.

        Args:
            agent: It does not listen yet.
            address: Host and port; port 0 takes a free one.

        Returns:
            Host and port of each socket: one for every address of a name.

        Raises:
            UsageError: It can't listen there, or may not.
        """
        private = self.tls is None and not self.insecure
        return agent.listen(*address, loopback_only=private)

    def announce(
        self, bound: list[tuple[str, int]], say: Callable[[str], None], more: str = ""
    ) -> None:
        """Say where the agent listens, and what that means.

        Args:
            bound: As `bind` returned them.
            say: Takes one line for people.
            more: Added to the end of the first line.
        """
        from pageferry.common.wire.addresses import format_host_port

        where = " and ".join(format_host_port(*address) for address in bound)
        say(f"listening on {where}{', TLS only' if self.tls is not None else ''}{more}")
        if self.tls is None and self.insecure:
            say(
                "--insecure: whoever reaches this address can read guests on their way and send"
                " some"
            )
