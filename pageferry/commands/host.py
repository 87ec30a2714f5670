"""`pageferry host`, and what it can be asked while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from pydantic import BaseModel, Field

from pageferry.common.capacity.agents import host_needs, start_agent
from pageferry.common.command_line.options import Options
from pageferry.common.command_line.run import JsonOptions, tell
from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.config.addresses import parse_address
from pageferry.common.config.fields import Duration
from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import (
    EXIT_NOT_VERIFIED,
    EXIT_OK,
    CancelledByUser,
    PageferryError,
    UsageError,
)
from pageferry.common.process import signals
from pageferry.common.process.heap import settle_down
from pageferry.common.process.logs import AgentLog
from pageferry.common.process.notices import print_error
from pageferry.common.process.status import Status, StatusPipe, supervised
from pageferry.common.wire.messages import GuestName
from pageferry.common.workload.registry import parse_workload
from pageferry.dest_agent.listen_options import ListenOptions

if TYPE_CHECKING:
    from pageferry.host.choice import RunningHost
    from pageferry.host.control_client import ControlClient
    from pageferry.host.host import Host

ControlOption = Annotated[
    Path | None,
    Parameter(
        name="--host",
        help="PATH of the host's control socket; not needed where one host only has the guest",
    ),
]
GuestOption = Annotated[
    GuestName | None,
    Parameter(name="--guest", help="NAME of the guest; not needed where there is one guest"),
]

host_app = App(name="host")


class HostOptions(ListenOptions):
    """Options of a host."""

    boot: Annotated[
        bool, Parameter(negative=""), Field(description="boot a guest at once, with these options")
    ] = False
    guest: Annotated[
        GuestName | None, Parameter(name="--guest"), Field(description="NAME of that guest")
    ] = None
    control: Annotated[
        Path | None, Field(description="PATH of the control socket; by default one for the port")
    ] = None
    log_dir: Annotated[
        Path | None, Field(description="keep a log of every event in this folder")
    ] = None
    quiet: Annotated[bool, Parameter(negative=""), Field(description="say nothing but errors")] = (
        False
    )


@host_app.default
def host(
    *unknown: Annotated[str, Parameter(show=False)],
    listen: str | None = None,
    options: Annotated[HostOptions | None, Parameter(name="*")] = None,
    config: Annotated[GuestConfig | None, Parameter(name="*")] = None,
    status_fd: Annotated[int | None, Parameter(show=False)] = None,
    supervisor: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Run guests, receive them from other hosts, and send them where `pageferry move` says.

    Ctrl-C ends the host and its guests; a move that can still be cancelled is.

    Args:
        unknown: Words that are no subcommand: any is refused.
        listen: HOST:PORT to listen on for guests that come; port 0 takes a free one, which is said.
        options: How it listens, what it logs, and whether it boots a guest; None is all defaults.
        config: The guest of --boot; only allowed with it.
        status_fd: Descriptor on which status is written as JSON lines; None is none.
        supervisor: With `status_fd`: PID whose death ends this process; None is the parent.

    Returns:
        The exit code, of the worst that happened to a guest here; 0 if nothing did.
    """
    if unknown:
        commands = [name for name in host_app if not name.startswith("-")]
        hint = did_you_mean(unknown[0], commands)
        raise UsageError(
            f"pageferry host {unknown[0]}: no such command, expected {', '.join(commands)}"
            f"{hint and f'; {hint}'}"
        )
    if listen is None:
        raise UsageError("pageferry host needs --listen HOST:PORT")
    options = options or HostOptions()
    if not options.boot and (config is not None or options.guest is not None):
        raise UsageError("options of a guest mean nothing without --boot")
    config = config or GuestConfig()
    parse_workload(config.workload)  # a misspelt name is refused before anything is compiled
    address = parse_address(listen, "--listen")
    tell([config] if config is not None else [], quiet=options.quiet)
    pipe = None
    if status_fd is not None:
        supervised(status_fd, supervisor)
        pipe = StatusPipe(status_fd)
    start_agent("a host", host_needs(tls=options.tls is not None))
    import uvloop

    log = AgentLog("host", log_dir=options.log_dir, quiet=options.quiet)
    with contextlib.closing(log):
        return uvloop.run(_run(address, options, config, log, pipe))


async def _run(
    address: tuple[str, int],
    options: HostOptions,
    config: GuestConfig,
    log: AgentLog,
    pipe: StatusPipe | None,
) -> int:
    # Imported once the arguments are known to be good.
    from pageferry.common.guest.jit import must_compile
    from pageferry.host.host import Host, closing_line

    must_compile()
    settle_down()
    running = Host(log, options)
    loop = asyncio.get_running_loop()
    with signals.in_loop(loop, lambda _number: running.stop()):
        failure = await _serve(running, address, options, config, log, pipe)
    if failure is not None:
        raise failure
    words, code = closing_line(running.ended, running.fates)
    print_error(words)
    return code


async def _serve(
    running: Host,
    address: tuple[str, int],
    options: HostOptions,
    config: GuestConfig,
    log: AgentLog,
    pipe: StatusPipe | None,
) -> PageferryError | None:
    """Serve until told to stop; return what was wrong with the guest that was to be booted."""
    from pageferry.host.control_server import ControlServer, bind_control
    from pageferry.host.messages import Boot

    bound = running.listen(address)
    bound_host, port = bound[0]
    server = ControlServer(running, log.say)
    await server.start(*bind_control(options.control, port))
    options.announce(bound, log.say, f", control socket {server.path}")
    if pipe is not None:
        said = {"host": bound_host, "port": port, "control": str(server.path)}
        pipe.write("listening", said)
    serving = asyncio.create_task(running.serve(), name="host")
    failure: PageferryError | None = None
    if options.boot:
        try:
            await running.boot(Boot(config=config, name=options.guest))
        except PageferryError as error:
            if not running.stopping:
                failure = error
                running.stop()
    try:
        await serving
    finally:
        await server.close()
    return failure


def ask_host(
    control: Path,
    request: BaseModel,
    show: Callable[[Status], None] | None = None,
    on_signal: Callable[[ControlClient], None] | None = None,
) -> Any:
    """Send one request to a host, and wait for its answer.

    Args:
        control: Path of the host's control socket.
        request: A request of `host.messages`.
        show: Called with each status that comes before the answer (of a move); None is nobody.
        on_signal: Called on Ctrl-C, with the client; the waiting then goes on. None stops waiting.

    Returns:
        The answer, a message of `host.messages`.

    Raises:
        CancelledByUser: Ctrl-C came, without `on_signal`; the host goes on with the request.
        ConnectionBroken: The host took the request, and is gone.
        PageferryError: No host listens there, or it refused or failed, with its exit code.
    """
    from pageferry.host.control_client import ControlClient

    client = ControlClient(control)

    async def ask() -> Any:
        asking = asyncio.ensure_future(client.ask(request, show))

        def stop(_number: int) -> None:
            if on_signal is not None:
                on_signal(client)
            else:
                asking.cancel()

        with signals.in_loop(asyncio.get_running_loop(), stop):
            return await asking

    try:
        return asyncio.run(ask())
    except asyncio.CancelledError:
        raise CancelledByUser(
            "no longer waiting: the host goes on with what it was asked to do"
        ) from None


@host_app.command(name="list")
def list_guests(
    *,
    control: ControlOption = None,
    options: Annotated[JsonOptions | None, Parameter(name="*")] = None,
) -> int:
    """List the guests of a host, and what each is doing; of several hosts, those of all.

    Args:
        control: Path of the host's control socket; None is all hosts of this user.
        options: Where the result goes; None is the terminal only.

    Returns:
        The exit code, 0.

    Raises:
        PageferryError: No host runs here or answers, or the file cannot be written.
    """
    from pageferry.host.choice import RunningHost, running_hosts
    from pageferry.host.control_client import find_controls
    from pageferry.host.messages import List

    options = options or JsonOptions()
    with options.opened() as file:
        if control is not None:
            hosts = [RunningHost(control, ask_host(control, List()))]
        else:
            hosts = asyncio.run(running_hosts(find_controls()))
        if options.json_file != "-":
            _print_guests(hosts)
        if file is not None:
            guests = [
                each.model_dump() | {"host": str(host.control)}
                for host in hosts
                for each in host.listed.guests
            ]
            file.write(json.dumps({"guests": guests}, indent=2) + "\n")
    return EXIT_OK


def _print_guests(hosts: Sequence[RunningHost]) -> None:
    from rich.console import Console
    from rich.table import Table

    from pageferry.common.units import format_size
    from pageferry.common.wire.addresses import format_host_port

    several = len(hosts) > 1
    table = Table(pad_edge=False)
    columns = ("guest", "state", "memory", "vCPUs", "workload", "steps", "here for", "note")
    for column in ("host", *columns) if several else columns:
        table.add_column(column, overflow="fold")
    for running, guest in [(each, guest) for each in hosts for guest in each.listed.guests]:
        address = format_host_port(running.listed.host, running.listed.port)
        table.add_row(
            *([address] if several else []),
            guest.name,
            guest.state,
            "–" if guest.memory is None else format_size(guest.memory),
            str(guest.vcpus or "–"),
            guest.workload or "–",
            "–" if guest.steps is None else f"{guest.steps:,}",
            f"{guest.here_s:,.0f} s",
            guest.note,
        )
    if table.row_count:
        Console().print(table)
    empty = [host for host in hosts if not host.listed.guests]
    for host in empty if several else []:
        print(f"{format_host_port(host.listed.host, host.listed.port)}: no guests")
    if empty and not several:
        print("no guests")


@host_app.command
def boot(
    *,
    control: ControlOption = None,
    guest: Annotated[
        GuestName | None,
        Parameter(name="--guest", help="NAME of the new guest; by default one is found"),
    ] = None,
    config: Annotated[GuestConfig | None, Parameter(name="*")] = None,
) -> int:
    """Boot a guest at a host, and print its name.

    Args:
        control: Path of the host's control socket; None is the only host here.
        guest: Name of the new guest; None lets the host find one.
        config: The guest; None is all defaults.

    Returns:
        The exit code, 0.

    Raises:
        PageferryError: Which host is meant cannot be told, or it could not boot the guest.
    """
    from pageferry.host.control_client import find_control
    from pageferry.host.messages import Boot

    config = config or GuestConfig()
    parse_workload(config.workload)
    tell([config])
    booted = ask_host(find_control(control), Boot(config=config, name=guest))
    print(booted.guest.name)
    return EXIT_OK


@host_app.command
def verify(*, control: ControlOption = None, guest: GuestOption = None) -> int:
    """Prove that a guest lost nothing, however often it was moved.

    The host pauses the guest and digests it. A fresh guest of the same configuration is then run
    here to the same step, and its digest must be equal: exit code 0, or 3.

    Args:
        control: Path of the host's control socket; None finds the host that has the guest.
        guest: Name of the guest; None is the only one.

    Returns:
        The exit code: 0, or 3 where the digests differ or the workload's own check failed.

    Raises:
        PageferryError: Which guest is meant cannot be told, or its host could not digest it.
    """
    from pageferry.host.choice import choose_host
    from pageferry.host.messages import Digest

    digested = ask_host(choose_host(control, guest), Digest(guest=guest))
    from pageferry.host.replay import replay_from_boot

    with signals.leaving(f"no longer verifying: guest {digested.name} goes on at its host"):
        found = replay_from_boot(digested.config, digested.steps, print_error)
    steps = sum(digested.steps)
    if found != digested.digest:
        print_error(
            f"guest {digested.name} at step {steps:,} has digest {digested.digest}, a fresh one"
            f" that ran as far has {found}"
        )
        return EXIT_NOT_VERIFIED
    if digested.check is not None:
        print_error(f"guest {digested.name}: its own check failed: {digested.check}")
        return EXIT_NOT_VERIFIED
    print(
        f"guest {digested.name} is what it must be at step {steps:,}: digest {found}"
        f" (it stood still for {digested.paused_ms:.1f} ms)"
    )
    return EXIT_OK


class ResumeOptions(Options):
    """What may be done about a guest in doubt."""

    force: Annotated[
        bool,
        Parameter(negative=""),
        Field(description="where nobody answers: you have seen that nothing runs it there"),
    ] = False
    recover_timeout: Annotated[
        Duration, Field(gt=0, le=3600, description="TIME for which the other host is asked")
    ] = 5.0


@host_app.command
def resume(
    *,
    control: ControlOption = None,
    guest: GuestOption = None,
    options: Annotated[ResumeOptions | None, Parameter(name="*")] = None,
) -> int:
    """Find out what became of a guest in doubt, and let it go on where that is right.

    The other host is asked again. If it never had the whole guest, or has forgotten it, the guest
    goes on here; if it runs it, the copy here is dropped.

    Args:
        control: Path of the host's control socket; None finds the host that has the guest.
        guest: Name of the guest; None is the only one.
        options: How long to ask, and what to do without an answer; None is all defaults.

    Returns:
        The exit code, 0.

    Raises:
        PageferryError: Which guest is meant cannot be told, or its host could not find out.
    """
    from pageferry.host.choice import choose_host
    from pageferry.host.messages import Resume

    options = options or ResumeOptions()
    request = Resume(guest=guest, force=options.force, timeout=options.recover_timeout)
    print(ask_host(choose_host(control, guest), request).said)
    return EXIT_OK


@host_app.command
def shutdown(*, control: ControlOption = None, guest: GuestOption = None) -> int:
    """End a guest for good.

    Args:
        control: Path of the host's control socket; None finds the host that has the guest.
        guest: Name of the guest; None is the only one.

    Returns:
        The exit code, 0.

    Raises:
        PageferryError: Which guest is meant cannot be told, or its host could not end it.
    """
    from pageferry.host.choice import choose_host
    from pageferry.host.messages import Shutdown

    print(ask_host(choose_host(control, guest), Shutdown(guest=guest)).said)
    return EXIT_OK
