"""A host: runs guests, receives them and sends them on; the two agents around a table of guests.

Everything happens on one event loop. What blocks on a guest does so in a thread (`work`), and the
table says whose a guest is meanwhile. What leaves this host is in `outgoing`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pageferry.common.errors import PageferryError
from pageferry.common.guest_location import NOBODY_HERE, TABLE, When, Who
from pageferry.common.process.aio import quit_task, run_to_completion
from pageferry.common.process.heap import give_back
from pageferry.common.process.last_resort import last_resort
from pageferry.common.process.logs import AgentLog
from pageferry.common.wire.tls_credentials import client_tls
from pageferry.dest_agent.admission import MemoryBudget
from pageferry.dest_agent.agent import DestAgent
from pageferry.dest_agent.listen_options import ListenOptions
from pageferry.dest_agent.session_table import SessionLimits
from pageferry.dest_agent.stopping import worst
from pageferry.host import messages as m
from pageferry.host.guest_table import Doing, Entry, Guests
from pageferry.host.guests_here import boot_and_run, digest_guest, guest_info
from pageferry.host.outgoing import Outgoing
from pageferry.host.work import Work


def closing_line(ended: Sequence[str], fates: Sequence[tuple[int, str]] = ()) -> tuple[str, int]:
    """Make the last line of a host that was stopped, and its exit code.

    Args:
        ended: Names of guests that ended with it.
        fates: Exit code and words for each guest that was between two hosts.

    Returns:
        The line, and the worst of the codes.
    """
    codes, words = [code for code, _ in fates], [words for _, words in fates]
    if ended:
        codes.append(TABLE[Who.HERE, When.WHOLE].exit_code)
        words.insert(0, f"guests that ended with this host: {', '.join(ended)}")
    return f"stopped: {'; '.join(words) or NOBODY_HERE}", worst(codes)


class Host:
    """One process of guests; `serve` until it is cancelled or told to `stop`.

    Must be made on the running loop, whose default threads it replaces.

    Args:
        log: Gets all lines and events; the caller closes it.
        options: None is the defaults.

    Raises:
        UsageError: The TLS credentials can't be used.

    Attributes:
        guests: The table.
        outgoing: Moves from here, and guests whose move is in doubt.
        ended: Names of guests that ended with this process.
    """

    def __init__(self, log: AgentLog, options: ListenOptions | None = None) -> None:
        self._log = log
        self._options = options = options or ListenOptions()
        self._bound = ("", 0)
        secure = client_tls(options.tls) if options.tls is not None else None
        server = options.server()
        self._budget = MemoryBudget(options.max_memory)
        self.guests = Guests(log.say, self._budget.release_guest)
        self._work = Work()
        self.outgoing = Outgoing(self.guests, self._work, log, secure)
        self._agent = DestAgent(
            log.say,
            log.event,
            SessionLimits(None, options.max_memory, options.max_sessions),
            server,
            budget=self._budget,
            registry=self.guests,
            turned_away=self.outgoing.meets_itself,
            stall_s=options.stall_timeout,
        )
        self._stop = asyncio.Event()
        self.ended: list[str] = []

    # -- life cycle ---------------------------------------------------------------------------

    def listen(self, address: tuple[str, int]) -> list[tuple[str, int]]:
        """Bind for guests that come.

        Args:
            address: Host and port; port 0 takes a free one.

        Returns:
            Host and port of each socket.

        Raises:
            UsageError: It can't listen there, or may not.
        """
        bound = self._options.bind(self._agent, address)
        self._bound = bound[0]
        return bound

    def stop(self) -> None:
        """End everything: moves that can still be cancelled, then guests.

        Each further call is one more signal. A move that is past cancelling is seen through as long
        as it goes well; a guest whose other host does not answer is given up. If nothing of that
        kind is left, the process ends within seconds, whatever it waits for.
        """
        first = not self._work.stopping
        self._work.stopping = True
        self._stop.set()
        if first:
            return  # `_end` begins
        self._agent.stop(self._log.say)
        self.outgoing.cancel()
        if self._agent.stopping.may_be_ended and self.outgoing.may_be_ended:
            here = [entry.name for entry in self.guests.entries if entry.guest is not None]
            last_resort(*closing_line([*self.ended, *here], self.fates))

    @property
    def stopping(self) -> bool:
        """Whether the host has been told to stop."""
        return self._work.stopping

    @property
    def fates(self) -> list[tuple[int, str]]:
        """Exit code and words for each guest that was between two hosts at the stop."""
        return [*self._agent.stopping.fates, *self.outgoing.lost]

    async def serve(self) -> None:
        """Serve until `stop`, then end the guests that are here, and say so.

        Those that have come in part come in whole first: ending them would lose pages that nobody
        else has.
        """
        agent = asyncio.create_task(self._agent.serve_forever(), name="agent")
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({agent, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if agent.done():
                agent.result()  # it never ends well by itself
        finally:
            await quit_task(stopped)
            await run_to_completion(self._end(agent))

    async def _end(self, agent: asyncio.Task[None]) -> None:
        looking = asyncio.create_task(self.outgoing.watch(), name="signal-escalation")
        self._agent.stop(self._log.say)
        self.outgoing.cancel()
        await self._agent.idle()
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)
        await self._work.finish(self._log.say)
        await quit_task(looking)
        for entry in self.guests.entries:
            if entry.guest is not None:
                self.ended.append(entry.name)
                await self._end_guest(entry)
            self.guests.gone(entry)
        self._work.close()

    async def _end_guest(self, entry: Entry) -> None:
        steps = sum(entry.here.steps())
        try:
            await self._work.blocking(entry.here.close)
        except PageferryError as error:  # the others are to be ended, too
            self._log.say(f"guest {entry.name} could not be ended: {error}")
        else:
            self._log.say(f"guest {entry.name} was ended after {steps:,} steps")

    # -- commands -----------------------------------------------------------------------------

    def list(self) -> m.Listed:
        """List every guest.

        Returns:
            The guests, oldest first, and where this host listens.
        """
        guests = [guest_info(entry) for entry in self.guests.entries]
        host, port = self._bound
        return m.Listed(host=host, port=port, guests=guests, incoming=self._agent.sessions)

    async def boot(self, order: m.Boot) -> m.Booted:
        """Boot a guest and run it; goes on if the caller is cancelled.

        Args:
            order: The guest's configuration, and a name if it is to have a certain one.

        Returns:
            The running guest.

        Raises:
            UsageError: The guest can't be had here, or its name is taken.
            PageferryError: The host is being stopped.
        """
        self._work.must_go_on()
        entry = self.guests.reserve(order.name, order.config.workload, Doing.BOOTING)
        await asyncio.shield(self._work.own(self._boot(entry, order)))
        return m.Booted(guest=guest_info(entry))

    async def _boot(self, entry: Entry, order: m.Boot) -> None:
        try:
            self._budget.book_guest(entry.name, order.config)
            guest = await self._work.blocking(boot_and_run, order, self._log.say)
        except BaseException:
            self.guests.gone(entry)
            raise
        if self._work.stopping:  # the host was stopped meanwhile: nothing has come of it
            await self._work.blocking(guest.close)
            self.guests.gone(entry)
            self._work.must_go_on()
        self.guests.runs(entry, guest)
        self._log.say(f"guest {entry.name} runs here")

    async def digest(self, order: m.Digest) -> m.Digested:
        """Digest a guest, which stands still for as long as that takes.

        Args:
            order: Says which guest.

        Returns:
            The digest and the steps that it belongs to.

        Raises:
            UsageError: There is no such guest, or something else is being done with it.
            PageferryError: The host is being stopped.
        """
        self._work.must_go_on()
        entry = self.guests.claim(order.guest, Doing.CHECKING)
        return await asyncio.shield(self._work.own(self._digest(entry)))

    async def _digest(self, entry: Entry) -> m.Digested:
        try:
            return await self._work.blocking(digest_guest, entry.name, entry.here)
        finally:
            self.guests.runs(entry)

    async def shutdown(self, order: m.Shutdown) -> m.Done:
        """End a guest for good.

        Args:
            order: Says which guest.

        Returns:
            What was done, for people.

        Raises:
            UsageError: There is no such guest, or something else is being done with it.
            PageferryError: The host is being stopped.
        """
        self._work.must_go_on()
        entry = self.guests.claim(order.guest, Doing.ENDING)
        return await asyncio.shield(self._work.own(self._shutdown(entry)))

    async def _shutdown(self, entry: Entry) -> m.Done:
        steps = sum(entry.here.steps())
        await self._work.blocking(entry.here.close)
        self.guests.gone(entry)
        said = f"guest {entry.name} was ended after {steps:,} steps"
        self._log.say(said)
        give_back()
        return m.Done(said=said)
