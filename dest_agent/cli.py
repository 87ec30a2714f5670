"""`pageferry dest` and `python -m pageferry.dest_agent`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from pageferry.common.capacity.agents import LEAST, dest_needs, start_agent
from pageferry.common.config.addresses import parse_address
from pageferry.common.config.fields import Injections, Size
from pageferry.common.errors import EXIT_OK, PageferryError
from pageferry.common.inject import only_for
from pageferry.common.process import signals
from pageferry.common.process.heap import settle_down
from pageferry.common.process.logs import AgentLog
from pageferry.common.process.notices import print_error, redirect
from pageferry.common.process.status import StatusPipe, supervised
from pageferry.common.timeline import TimelineEvent
from pageferry.common.units import PAGE_SIZE
from pageferry.dest_agent.listen_options import ListenOptions


class DestOptions(ListenOptions):
    """Options of a destination agent."""

    once: Annotated[
        bool,
        Parameter(negative=""),
        Field(description="end after one migration, with its exit code"),
    ] = False
    memory: Annotated[
        Size | None, Field(ge=PAGE_SIZE, description="take only guests of this SIZE")
    ] = None
    inject: Injections = ()
    log_dir: Annotated[
        Path | None, Field(description="keep a log of every event in this folder")
    ] = None
    quiet: Annotated[bool, Parameter(negative=""), Field(description="say nothing but errors")] = (
        False
    )


def dest(
    *,
    listen: str,
    options: Annotated[DestOptions | None, Parameter(name="*")] = None,
    status_fd: Annotated[int | None, Parameter(show=False)] = None,
    witness: Annotated[Path | None, Parameter(show=False)] = None,
    supervisor: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Wait for guests, receive them, and run them.

    Args:
        listen: HOST:PORT to listen on; port 0 takes a free one, and says which.
        options: All other options; None is all defaults.
        status_fd: Descriptor of the pipe on which a supervisor reads our status; None without one.
        witness: File that keeps the guests' heartbeats, for tests.
        supervisor: PID of the process whose end ends this one; None is our parent. Only with
            `status_fd`.

    Returns:
        The exit code.
    """
    options = options or DestOptions()
    host, port = parse_address(listen, "--listen")
    only_for("dest", options.inject)
    pipe = None
    supervisor = supervised(status_fd, supervisor)
    if status_fd is not None:
        pipe = StatusPipe(status_fd)
        redirect(functools.partial(pipe.write, "notice"))  # nobody sees our standard error
    start_agent("a destination", dest_needs(LEAST, tls=options.tls is not None))
    import uvloop

    log = AgentLog("dest", log_dir=options.log_dir, quiet=options.quiet)
    with contextlib.closing(log):
        return uvloop.run(_serve(host, port, options, log, pipe, witness, supervisor))


async def _serve(
    host: str,
    port: int,
    options: DestOptions,
    log: AgentLog,
    pipe: StatusPipe | None,
    witness: Path | None,
    supervisor: int | None,
) -> int:
    # These imports take time: they wait until the arguments have been found good.
    from pageferry.common.guest.jit import must_compile
    from pageferry.dest_agent.agent import DestAgent
    from pageferry.dest_agent.session_table import SessionLimits

    must_compile()
    agent = DestAgent(
        log.say,
        _sink(log, pipe),
        SessionLimits(options.memory, options.max_memory, options.max_sessions),
        options.server(),
        stall_s=options.stall_timeout,
        inject=options.inject,
        witness=witness,
        supervisor=supervisor,
    )
    bound = options.bind(agent, (host, port))
    options.announce(bound, log.say)
    if pipe is not None:
        pipe.write("listening", {"host": bound[0][0], "port": bound[0][1]})
    settle_down()
    loop = asyncio.get_running_loop()
    serving = loop.create_task(agent.serve_once() if options.once else agent.serve_forever())
    with signals.in_loop(loop, lambda _number: agent.stop(print_error)):
        failure: PageferryError | None = None
        try:
            await serving
        except PageferryError as error:
            failure = error
            if options.quiet:  # otherwise it has been said
                print_error(str(error))
        except asyncio.CancelledError:
            pass
    if agent.stopping.begun:
        print_error(agent.stopping.closing_line)
        return agent.stopping.exit_code(failure)
    return EXIT_OK if failure is None else failure.exit_code


def _sink(log: AgentLog, pipe: StatusPipe | None) -> Callable[[str, TimelineEvent], None]:
    """Return where events go: to the log, and to the pipe those that a supervisor needs."""

    def sink(session: str, event: TimelineEvent) -> None:
        log.event(session, event)
        if pipe is not None and event.event == "resumed":
            pipe.write("resumed", session)
        if pipe is not None and (
            event.event == "all-pages-present" or event.fields.get("missing") == 0
        ):
            pipe.write("whole", session)

    return sink
