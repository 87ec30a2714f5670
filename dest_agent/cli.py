"""`pageferry dest` and `python -m dest_agent`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field

from common.config import Injections, Size, StallTimeout, parse_address
from common.errors import EXIT_CANCELLED, EXIT_OK, PageferryError
from common.heap import settle_down
from common.inject import only_for
from common.logs import AgentLog
from common.status import StatusPipe, die_with_parent
from common.units import PAGE_SIZE


class DestOptions(BaseModel):
    """Options of a destination agent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    once: Annotated[
        bool,
        Parameter(negative=""),
        Field(description="end after one migration, with its exit code"),
    ] = False
    memory: Annotated[
        Size | None, Field(ge=PAGE_SIZE, description="take only guests of this SIZE")
    ] = None
    stall_timeout: StallTimeout = 30.0
    inject: Injections = ()
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
    tls: Annotated[
        Path | None,
        Field(description="take sources of our CA only, over TLS 1.3, with this folder's keys"),
    ] = None
    insecure: Annotated[
        bool,
        Parameter(negative=""),
        Field(description="listen beyond loopback without TLS: for a network that you trust"),
    ] = False
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

    Parameters
    ----------
    listen
        HOST:PORT to listen on; port 0 takes a free one, which is said.
    """
    options = options or DestOptions()
    host, port = parse_address(listen)
    only_for("dest", options.inject)
    pipe = None
    if status_fd is not None:
        die_with_parent(os.getppid() if supervisor is None else supervisor)
        pipe = StatusPipe(status_fd)
    import uvloop

    log = AgentLog("dest", log_dir=options.log_dir, quiet=options.quiet)
    with contextlib.closing(log):
        return uvloop.run(_serve(host, port, options, log, pipe, witness))


async def _serve(
    host: str,
    port: int,
    options: DestOptions,
    log: AgentLog,
    pipe: StatusPipe | None,
    witness: Path | None,
) -> int:
    from common.wire.tls import server_tls
    from dest_agent.agent import DestAgent, Limits  # after the arguments have been found to be good

    limits = Limits(options.memory, options.max_memory, options.max_sessions)
    secure = server_tls(options.tls) if options.tls is not None else None
    agent = DestAgent(
        log.say,
        log.event,
        limits,
        secure,
        stall_s=options.stall_timeout,
        inject=options.inject,
        witness=witness,
    )
    private = secure is None and not options.insecure
    bound_host, bound_port = agent.listen(host, port, loopback_only=private)
    where = f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"
    log.say(f"listening on {where}{', TLS only' if secure is not None else ''}")
    if secure is None and options.insecure:
        log.say(
            "--insecure: whoever reaches this address can read guests on their way and send some"
        )
    if pipe is not None:
        pipe.write("listening", {"host": bound_host, "port": bound_port})
    settle_down()
    loop = asyncio.get_running_loop()
    task = loop.create_task(agent.serve_once() if options.once else agent.serve_forever())
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.say("stopped")
        return EXIT_CANCELLED
    except PageferryError as error:
        return error.exit_code  # it has been said
    return EXIT_OK
