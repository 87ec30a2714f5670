"""`pageferry move`: tells a host where to send a guest."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from common import signals
from common.cli import LimitOptions, OutputOptions, ReportFiles, complain
from common.config import Duration, TransferConfig, parse_address
from common.errors import ConnectionBroken, UsageError
from common.inject import only_for
from common.invocation import stamp
from common.status import Status, StatusPipe
from common.whereabouts import When, Who, told
from lab.host_cli import Control, Name, asked


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
        """Without the watching."""
        return TransferConfig(**{name: getattr(self, name) for name in TransferConfig.model_fields})


def move(
    *,
    to: Annotated[str, Parameter(name="--to"), Field(description="HOST:PORT of the other host")],
    control: Control = None,
    guest: Name = None,
    tls_hostname: Annotated[
        str | None,
        Parameter(help="NAME that the other host's certificate must have, if not HOST"),
    ] = None,
    config: Annotated[MoveConfig | None, Parameter(name="*")] = None,
    limits: Annotated[LimitOptions | None, Parameter(name="*")] = None,
    output: Annotated[OutputOptions | None, Parameter(name="*")] = None,
    status_fd: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Have a host send a running guest to another host, and print what it cost.

    Ctrl-C cancels the move, and the guest goes on where it is.

    Parameters
    ----------
    to
        HOST:PORT on which the other host listens.
    """
    from common.console import ProgressView, print_report
    from common.html import render_one
    from common.limits import enforced, given, judge, warn
    from lab.host_choice import choose_host
    from lab.host_messages import Move, Moved

    address = parse_address(to, "--to")
    config = config or MoveConfig()
    output, limits = output or OutputOptions(), limits or LimitOptions()
    if output.log_dir is not None:
        raise UsageError("--log-dir: it is the hosts that log, see 'pageferry host --log-dir'")
    pipe = StatusPipe(status_fd) if status_fd is not None else None
    order = Move(
        to=to,
        guest=guest,
        transfer=config.transfer,
        warmup=config.warmup,
        run_after=config.run_after,
        tls_hostname=tls_hostname,
    )
    only_for("source", config.inject)
    host = choose_host(control, guest, to=address)
    if tls_hostname is not None:
        from common.wire.tls import checked_hostname

        checked_hostname(tls_hostname)
    warn([config.strategy], config)
    with signals.noted(), ReportFiles(output) as files:
        with ProgressView(output.wish) as view:
            when = When.BEFORE

            def show(status: Status) -> None:
                nonlocal when
                when = status.when or when
                view.update(status)
                if pipe is not None:
                    pipe.write("status", status.model_dump())

            try:
                moved: Moved = asked(host, order, show, lambda client: client.cancel())
            except ConnectionBroken as error:
                raise told(str(error), Who.HOST, when) from None
        stamp(moved.report)
        judge(moved.report, given(config))
        if output.json_file != "-":
            print_report(moved.report)
        if moved.error is not None:
            complain(moved.error)
        files.write(moved.report.to_json, lambda: render_one(moved.report))
    code, missed = enforced(moved.report, moved.exit_code, enforce=limits.enforce)
    if missed is not None:
        complain(missed)
    return code
