"""`pageferry move`: tells a host where to send a guest."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter
from pydantic import Field

from pageferry.commands.host import ControlOption, GuestOption, ask_host
from pageferry.common.command_line.invocation import stamp_report
from pageferry.common.command_line.run import LimitOptions, OutputOptions
from pageferry.common.config.addresses import parse_address
from pageferry.common.config.fields import Duration
from pageferry.common.config.transfer import TransferConfig
from pageferry.common.errors import ConnectionBroken, UsageError
from pageferry.common.files.report_files import ReportFiles
from pageferry.common.guest_location import TABLE, When, Who, location_error, location_sentence
from pageferry.common.inject import only_for
from pageferry.common.process import signals
from pageferry.common.process.last_resort import last_resort
from pageferry.common.process.notices import print_error
from pageferry.common.process.status import Status, StatusPipe
from pageferry.common.termination import AGAIN, SignalEscalation, SignalReply

if TYPE_CHECKING:
    from pathlib import Path

    from pageferry.common.terminal.console import ProgressView
    from pageferry.host.control_client import ControlClient
    from pageferry.host.messages import Moved, MoveGuest

_LOOK_S: Final = 0.25
_NOW_S: Final = 0.2  # for an answer that is on its way


TlsHostname = Annotated[
    str | None, Parameter(help="NAME that the other host's certificate must have, if not HOST")
]


class MoveConfig(TransferConfig):
    """How a guest travels, and how long it is watched."""

    warmup: Annotated[
        Duration, Field(ge=0, le=86400, description="TIME the guest is watched before the move")
    ] = 0.1
    run_after: Annotated[
        Duration, Field(ge=0, le=86400, description="TIME the guest is watched after it")
    ] = 0.1

    @property
    def transfer(self) -> TransferConfig:
        """The same without the watching."""
        return TransferConfig(**{name: getattr(self, name) for name in TransferConfig.model_fields})


class _Watch:
    """What the host reports while the guest moves, and what signals do about it."""

    def __init__(self, view: ProgressView, pipe: StatusPipe | None) -> None:
        self.when = When.BEFORE
        self._view, self._pipe = view, pipe
        self._heard_s = time.monotonic()
        self._escalation = SignalEscalation(self._heard_s)
        self._looking = False

    def show(self, status: Status) -> None:
        """Take a status from the host: note how far it is, and show it."""
        self.when, self._heard_s = status.when or self.when, time.monotonic()
        self._keep_looking()
        self._view.update(status)
        if self._pipe is not None:
            self._pipe.write("status", status.model_dump())

    def ask_to_end(self, client: ControlClient) -> None:
        """Handle a signal: the host decides what it does; where the host is silent, we do."""
        client.cancel()
        self._replied(self._escalation.signal(time.monotonic(), self._trouble_s()))
        self._keep_looking()

    def _keep_looking(self) -> None:
        """Begin to look for trouble, again and again; only the first call counts."""
        if not self._looking:
            self._looking = True
            self._look()

    def _look(self) -> None:
        """Look for silence: the user is told of it even where it began after a signal."""
        reply = self._escalation.look(self._trouble_s())
        if reply is not None:
            self._replied(reply)
        asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _trouble_s(self) -> float | None:
        return self._escalation.trouble_s(None, self._heard_s, time.monotonic())

    def _replied(self, reply: SignalReply) -> None:
        if reply is SignalReply.STAKE:
            print_error(f"the host does not answer; {AGAIN}, and the host goes on")
        elif reply is SignalReply.END:
            words = location_sentence("the host does not answer", Who.SILENT, self.when)
            last_resort(words, TABLE[Who.SILENT, self.when].exit_code, after_s=_NOW_S)


def move(
    *,
    to: Annotated[str, Parameter(name="--to"), Field(description="HOST:PORT of the other host")],
    control: ControlOption = None,
    guest: GuestOption = None,
    tls_hostname: TlsHostname = None,
    config: Annotated[MoveConfig | None, Parameter(name="*")] = None,
    limits: Annotated[LimitOptions | None, Parameter(name="*")] = None,
    output: Annotated[OutputOptions | None, Parameter(name="*")] = None,
    status_fd: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Have a host send a running guest to another host, and print what it cost.

    Ctrl-C cancels the move, and the guest goes on where it is.

    Args:
        to: HOST:PORT on which the other host listens.
        control: Path of the control socket of the host that has the guest; None finds it.
        guest: Name of the guest; None is the only one.
        tls_hostname: Name that the other host's certificate must have; None is HOST.
        config: Strategy and transfer, and how long the guest is watched; None is all defaults.
        limits: What a missed limit does to the exit code.
        output: Where results and progress go; `log_dir` is refused, as the hosts do the logging.
        status_fd: Descriptor on which progress is written as JSON lines; None is none.

    Returns:
        The exit code: the one of the move, or 5 with --enforce where a limit was missed.
    """
    from pageferry.common.report.limits import warn_of_limit
    from pageferry.host.choice import choose_host

    address = parse_address(to, "--to")
    config = config or MoveConfig()
    output, limits = output or OutputOptions(), limits or LimitOptions()
    if output.log_dir is not None:
        raise UsageError("--log-dir: it is the hosts that log, see 'pageferry host --log-dir'")
    pipe = StatusPipe(status_fd) if status_fd is not None else None
    order = _order(to, guest, config, tls_hostname)
    only_for("source", config.inject)
    host = choose_host(control, guest, to=address)
    _check_hostname(tls_hostname)
    warn_of_limit([config.strategy], config)
    with signals.noted(), ReportFiles(output) as files:
        moved = _follow(host, order, output, pipe)
        _tell(moved, config, files, table=output.json_file != "-")
    return _exit_code(moved, enforce=limits.enforce)


def _check_hostname(hostname: str | None) -> None:
    """Raise `UsageError` unless a certificate can have that name."""
    if hostname is not None:
        from pageferry.common.wire.tls_credentials import checked_hostname

        checked_hostname(hostname)


def _follow(host: Path, order: MoveGuest, output: OutputOptions, pipe: StatusPipe | None) -> Moved:
    """Have the host move the guest and show each moment."""
    from pageferry.common.terminal.console import ProgressView

    with ProgressView(output.wish) as view:
        watch = _Watch(view, pipe)
        try:
            moved: Moved = ask_host(host, order, watch.show, watch.ask_to_end)
        except ConnectionBroken as error:
            raise location_error(str(error), Who.HOST, watch.when) from None
    return moved


def _order(to: str, guest: str | None, config: MoveConfig, tls_hostname: str | None) -> MoveGuest:
    from pageferry.host.messages import MoveGuest

    return MoveGuest(
        to=to,
        guest=guest,
        transfer=config.transfer,
        warmup=config.warmup,
        run_after=config.run_after,
        tls_hostname=tls_hostname,
    )


def _tell(moved: Moved, config: MoveConfig, files: ReportFiles, *, table: bool) -> None:
    """Show the result, on the terminal and in files."""
    from pageferry.common.html import render_one
    from pageferry.common.report.limits import judge, limits_given
    from pageferry.common.terminal.console import print_report

    stamp_report(moved.report)
    judge(moved.report, limits_given(config))
    if table:
        print_report(moved.report)
    if moved.error is not None:
        print_error(moved.error)
    files.write(moved.report.to_json, lambda: render_one(moved.report))


def _exit_code(moved: Moved, *, enforce: bool) -> int:
    from pageferry.common.report.limits import enforced

    code, missed = enforced(moved.report, moved.exit_code, enforce=enforce)
    if missed is not None:
        print_error(missed)
    return code
