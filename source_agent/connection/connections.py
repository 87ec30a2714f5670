"""The connections of one session: control, pages, and the pages that faults demand."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, Literal

from pageferry.common.config.addresses import parse_candidates
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import PageferryError, PeerSilent, RemoteProtocolError
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.handover import Handover
from pageferry.common.process.aio import to_loop
from pageferry.common.wire import messages
from pageferry.common.wire.addresses import format_host_port
from pageferry.common.wire.budget import Budget
from pageferry.common.wire.connecting import HANDSHAKE_S, connect
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.injector import Injector
from pageferry.common.wire.link_policy import LinkPolicy
from pageferry.common.wire.pacing import Pacer
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.common.wire.tls_credentials import ClientTls
from pageferry.source_agent.connection.control import SourceControl
from pageferry.source_agent.connection.outcome_query import OutcomeAnswer, ask_outcome
from pageferry.source_agent.measurements import Measurements
from pageferry.source_agent.postcopy.supply import PageSupply
from pageferry.source_agent.precopy.page_sender import PageSender

_LEAST_DIAL_S: Final = 2.0  # for each of several addresses, to answer a hello

ConnectionRole = Literal["control", "bulk", "urgent", "query", "recover"]


class SourceConnections:
    """Opens the connections, knows when one broke, and counts their bytes into the record.

    Make it on the event loop.

    Args:
        config: Says how many channels there are, how they are paced, and where to look for a
            destination that was lost.
        address: Host and port of the destination, as they were given.
        record: Gets the bytes, and what the handshakes told.
        handover: Whether the commit has been sent: a failure after that does not abort senders.
        secure: How connections use TLS; None: plain TCP.
        tap: Sees connections and what goes over them, for injected faults; None: nobody does.
        command: What is expected to listen at the destination, for messages.

    Attributes:
        stream: How pages travel, as both ends agreed on it.
        address: Host and port of the destination; numeric once connected.
        pacer: The rate limit of all connections.
        urgent: The urgent connection; open only where pages may be missing at the destination.
        failure: Why it is useless to send on, as soon as that is known; None: no failure is known.
        attempt: Which of the session's attempts the connections belong to, 0 for the first; both
            ends refuse what belongs to another one.
        tell: Takes the failure of a thread of ours, from any thread.
    """

    def __init__(
        self,
        config: MigrationConfig,
        address: tuple[str, int],
        record: Measurements,
        handover: Handover,
        *,
        secure: ClientTls | None,
        tap: Injector | None,
        command: str = "pageferry dest",
    ) -> None:
        self._command = command
        self._config = config
        self._record = record
        self._handover = handover
        # The certificate has to be that of the name that was given, whatever address it led to.
        if secure is not None:
            secure = replace(secure, hostname=secure.hostname or address[0].partition("%")[0])
        self.stream = StreamFormat.from_config(config)
        self._link = LinkPolicy(config.stall_timeout, config.congestion, secure, tap)
        self._token = secrets.token_hex(messages.TOKEN_LENGTH // 2)
        self.address = address
        # As they were given: a name may lead elsewhere after a while.
        more = parse_candidates(config.recover_to)
        self._asked_for = [address, *((host, port or address[1]) for host, port in more)]
        self._turn = 0
        paced = config.channels if config.pacing == "kernel" else 0
        self.pacer = Pacer(config.max_bandwidth, kernel_channels=paced)
        self._control: SourceControl | None = None
        self._page_sender: PageSender | None = None
        self.urgent: socket.socket | None = None
        self.failure: PageferryError | None = None
        self.attempt = 0
        self._supply: PageSupply | None = None
        self._budget = Budget()  # for the destination's messages, over all attempts
        # For a thread of ours to say that it has failed.
        self.tell = to_loop(self._on_thread)

    # -- what there is ------------------------------------------------------------------------

    @property
    def control(self) -> SourceControl:
        """The control connection, from `connect` on."""
        assert self._control is not None  # noqa: S101
        return self._control

    @property
    def page_sender(self) -> PageSender:
        """What sends on the bulk connections, from `open_channels` on."""
        assert self._page_sender is not None  # noqa: S101
        return self._page_sender

    @property
    def connected(self) -> bool:
        """Whether there is a control connection, broken or not."""
        return self._control is not None

    @property
    def sent_bytes(self) -> int:
        """Bytes that were sent on the bulk connections that are open."""
        return 0 if self._page_sender is None else self._page_sender.sent_bytes

    @property
    def stall_s(self) -> float:
        """How many seconds a destination that lives may say nothing."""
        return self._link.stall_s

    @property
    def where(self) -> str:
        """The destination as HOST:PORT, for people."""
        return format_host_port(*self.address)

    def raise_failure(self) -> None:
        """Raise what is known to have ended the session's connections, if anything has.

        Raises:
            PageferryError: The destination gave up, a connection broke, or a thread of ours failed.
        """
        if self.failure is not None:
            raise self.failure

    def abort(self) -> None:
        """Make whoever sends pages fail at once."""
        if self._page_sender is not None:
            self._page_sender.abort()

    def _on_failure(self, error: PageferryError) -> None:
        """Note that the destination gave up, or the connection broke: it is useless to send on."""
        self.failure = error
        if not self._handover.commit_sent:
            self.abort()

    def _on_thread(self, error: PageferryError) -> None:
        """Tell whoever waits for the destination, too."""
        if self._control is not None:
            self._control.fail(error)

    # -- opening ------------------------------------------------------------------------------

    def hello(self, role: ConnectionRole, index: int = 0) -> messages.Hello:
        """Make the first message of a connection: its session, and the proof that it belongs to it.

        Args:
            role: What the connection is for.
            index: Which channel it is; 0 for other roles than `bulk`.

        Returns:
            The hello, of the present attempt.
        """
        session = self._record.session
        return messages.Hello(
            role=role, session=session, token=self._token, channel=index, attempt=self.attempt
        )

    async def _dial(self, role: ConnectionRole, index: int = 0) -> Connection:
        """Open a new connection of this session."""
        return await connect(
            *self.address,
            self.hello(role, index),
            self._link,
            command=self._command,
        )

    async def connect(self) -> None:
        """Open the control connection, and wait for the destination's welcome.

        Raises:
            PeerUnreachable: No connection could be made.
            PeerRefused: The destination does not take the session.
            PeerSilent: It did not welcome the session in time.
            RemoteProtocolError: It sent something else.
        """
        started = time.monotonic_ns()
        connection = await self._dial("control")
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                welcome = await self._welcomed(connection.expect(messages.Welcome))
        except TimeoutError:
            connection.close()
            raise PeerSilent(
                f"{connection.peer} did not welcome the session within {HANDSHAKE_S:.0f} s"
            ) from None
        except BaseException:
            connection.close()
            raise
        self._control = SourceControl(connection, self._on_failure, self._budget)
        # The name may lead elsewhere later, but this destination has the session.
        self.address = connection.address
        self._record.connection.congestion = connection.congestion
        self._record.connection.tls = self._link.secure is not None
        self._record.connection.peer_welcome = welcome
        self._record.times.setup_ns += time.monotonic_ns() - started

    async def _welcomed(self, welcome: Awaitable[messages.Welcome]) -> messages.Welcome:
        """Return the welcome. Raises `RemoteProtocolError` unless it is of our attempt."""
        answer = await welcome
        self._check_attempt(answer)
        return answer

    def _check_attempt(self, welcome: messages.Welcome) -> None:
        if welcome.attempt != self.attempt:
            raise RemoteProtocolError(
                f"a welcome to attempt {welcome.attempt}, expected {self.attempt}"
            )

    def candidates(self) -> list[tuple[str, int]]:
        """List where the destination may be found again, in the order in which that is tried.

        These are the address that it had, the one that was given at the beginning, and those of
        `--recover-to`. Names are resolved anew each time.

        Returns:
            Hosts and ports, each once.
        """
        return list(dict.fromkeys([self.address, *self._asked_for]))

    def next_candidate(self) -> tuple[str, int]:
        """Take the next candidate; after the last one, the first.

        Returns:
            Its host and port.
        """
        candidates = self.candidates()
        self._turn += 1
        return candidates[(self._turn - 1) % len(candidates)]

    async def rejoin(self, attempt: int) -> messages.CommitOutcome | None:
        """Open a new control connection for the session that broke, in place of the old one.

        Args:
            attempt: Number of the attempt.

        Returns:
            None where the session goes on. Its outcome where it has ended there, and the
            destination that had it says so.

        Raises:
            PageferryError: Whatever a handshake may raise.
            RemoteProtocolError: Whoever answers does not know the session, or answers another
                attempt.
        """
        self.attempt = attempt
        before, self.address = self.address, self.next_candidate()
        try:
            outcome = await self._come_back()
        except BaseException:
            self.address = before
            raise
        self._turn = 0
        return outcome

    async def _come_back(self) -> messages.CommitOutcome | None:
        asked_ns = time.monotonic_ns()
        limit_s = max(HANDSHAKE_S / len(self.candidates()), _LEAST_DIAL_S)
        try:
            async with asyncio.timeout(limit_s):
                connection = await self._dial("recover")
        except TimeoutError:
            raise PeerSilent(f"no answer from {self.where} within {limit_s:g} s") from None
        try:
            self.address = connection.address
        except BaseException:
            connection.close()
            raise
        self.failure = None
        control = self._control = SourceControl(connection, self._on_failure, self._budget)
        answer = await control.welcome(self.stall_s)
        if isinstance(answer, messages.Welcome):
            self._check_attempt(answer)
            return None
        sample = OutcomeAnswer.to(answer, asked_ns).sample
        if answer.answer == "running" or self._record.connection.had_session(answer, sample):
            return answer
        raise RemoteProtocolError(f"{self.where} knows nothing of the session")

    async def open_channels(self, memory: GuestMemory, supply: PageSupply | None) -> None:
        """Open the bulk connections, and with a supply the urgent one, which it then serves.

        They are all opened at once, since each takes some round trips.

        Args:
            memory: Of the guest; pages are sent from it.
            supply: Serves pages on the urgent connection; None: nothing may be missing there.

        Raises:
            PageferryError: Whatever a handshake may raise; none of the connections stays open.
        """
        config, urgent = self._config, [("urgent", 0)] if supply is not None else []
        wanted = [*(("bulk", index) for index in range(config.channels)), *urgent]
        sockets = await self._open_all(wanted)
        if supply is not None:
            self._supply, self.urgent = supply, sockets.pop()
            supply.server.serve(self.urgent, self.attempt)
        self._page_sender = PageSender(
            memory,
            sockets,
            self.pacer,
            stream=self.stream,
            link=self._link,
            attempt=self.attempt,
            encoder=self._record.precopy.encoder,
            tell=self.tell,
        )

    async def _open_all(self, wanted: list[tuple[Any, int]]) -> list[socket.socket]:
        tasks = [asyncio.ensure_future(self._open(role, index)) for role, index in wanted]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            for opened in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(opened, socket.socket):
                    opened.close()
            raise

    async def _open(self, role: Literal["bulk", "urgent"], index: int) -> socket.socket:
        connection = await self._dial(role, index)
        try:
            await self._welcomed(connection.expect(messages.Welcome))
        except BaseException:
            connection.close()
            raise
        self._record.connection.handshake_bytes += connection.sent_bytes + connection.received_bytes
        return connection.detach() if role == "bulk" else connection.detach_urgent(self.tell)

    async def ask_outcome(self, timeout_s: float) -> OutcomeAnswer | None:
        """Ask what became of the commit, over new connections.

        Where the destination is looked for in several places, an answer does not end the search if
        it comes from somebody who knows nothing of the session and never had it.

        Args:
            timeout_s: How many seconds to ask.

        Returns:
            The answer; None: there was none in time.
        """
        alone = len(self.candidates()) == 1

        def is_final(answer: OutcomeAnswer) -> bool:
            known = answer.outcome.answer != "unknown"
            return (
                alone or known or self._record.connection.had_session(answer.outcome, answer.sample)
            )

        return await ask_outcome(
            self.next_candidate,
            self.hello("query"),
            timeout_s,
            self._link,
            is_final=is_final,
        )

    # -- closing ------------------------------------------------------------------------------

    async def hang_up(self, settle: Callable[[], Awaitable[None]]) -> None:
        """Close every connection, and count its bytes.

        Args:
            settle: Waits until nobody sends any more.
        """
        self.abort()
        await settle()
        if self._page_sender is not None:
            self._record.connection.bulk_bytes += self._page_sender.sent_bytes
            self._page_sender.close()
            self._page_sender = None
        if self._control is not None:
            self._record.connection.control_bytes += self._control.wire_bytes
            await self._control.close()
            self._control = None
        if self._supply is not None:
            await asyncio.to_thread(self._supply.server.stop)
        if self.urgent is not None:
            self.urgent.close()
            self.urgent = None
