"""`pageferry predict`: what a migration would cost, without one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pageferry.common.command_line.run import JsonOptions, tell
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import EXIT_OK
from pageferry.common.process import signals
from pageferry.common.process.notices import redirect
from pageferry.common.process.status import Status, StatusPipe, supervised
from pageferry.common.report.sections.prediction import PredictionReport
from pageferry.common.terminal.progress import ProgressOptions
from pageferry.runs.prediction import CANCELLED, PredictConfig, document_of

if TYPE_CHECKING:
    from pageferry.common.guest.machine import Guest


class PredictOutput(ProgressOptions, JsonOptions):
    """Where the prediction and its progress go."""


def predict(
    *,
    config: Annotated[PredictConfig | None, Parameter(name="*")] = None,
    output: Annotated[PredictOutput | None, Parameter(name="*")] = None,
    status_fd: Annotated[int | None, Parameter(show=False)] = None,
    supervisor: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Boot a guest, measure it for a moment, and say what each strategy would cost to move it.

    No destination is needed, and nothing is moved. The bandwidth is taken to be --max-bandwidth, or
    --assume-bandwidth where that is less, and never more than this machine was seen to send over
    loopback while the guest ran. A distant destination adds its round trip to each round and to the
    downtime.

    Args:
        config: The guest, and what is assumed of the link; None is all defaults.
        output: Where the result and progress go; None is the terminal only.
        status_fd: Descriptor on which progress and result are written as JSON lines; None is none.
        supervisor: With `status_fd`: PID whose death ends this process; None is the parent.

    Returns:
        The exit code, 0.
    """
    from pageferry.common.report.binding_limit import config_over_link
    from pageferry.common.terminal.prediction import print_prediction
    from pageferry.runs.tables import wide_console

    config, output = config or PredictConfig(), output or PredictOutput()
    config = config_over_link(config, config.assume_bandwidth or math.inf)
    tell([config], quiet=output.quiet)
    pipe = _pipe(status_fd, supervisor)
    with output.opened("the prediction") as file:
        made = _follow(config, output, pipe)
        document = document_of(config, made)
        if pipe is not None:
            pipe.write("report", document.model_dump())
        if output.json_file != "-":
            print_prediction(made, wide_console())
        if file is not None:
            file.write(document.to_json())
    return EXIT_OK


def _pipe(status_fd: int | None, supervisor: int | None) -> StatusPipe | None:
    """Make the pipe for a supervisor, whose end ends this process, and which hears notices too."""
    if status_fd is None:
        return None
    supervised(status_fd, supervisor)
    pipe = StatusPipe(status_fd)
    redirect(partial(pipe.write, "notice"))
    return pipe


def _follow(
    config: PredictConfig, output: PredictOutput, pipe: StatusPipe | None
) -> PredictionReport:
    """Make the prediction and show each moment."""
    from pageferry.common.terminal.console import ProgressView

    with ProgressView(output.wish) as view:

        def say(phase: str) -> None:
            view.update(Status(phase=phase))
            if pipe is not None:
                pipe.write("status", Status(phase=phase).model_dump())

        return _run(config, say)


def _run(config: MigrationConfig, say: Callable[[str], None]) -> PredictionReport:
    import uvloop

    from pageferry.common.capacity.agents import check_guest, source_needs, start_agent

    start_agent(f"an agent with {config.vcpus} vCPU(s)", source_needs(config))
    from pageferry.common.guest.compiling import compile_kernels, is_compiled
    from pageferry.common.guest.machine import Guest

    check_guest(config.guest, compiled=is_compiled(config.workload))
    with signals.leaving(CANCELLED):
        compile_kernels(config.guest, say)
        say("booting the guest")
        guest = Guest(
            config.guest,
            boot=True,
            vcpu_nice=config.vcpu_nice,
            count_writes=config.count_writes,
        )
        try:
            return uvloop.run(_measured(config, guest, say))
        finally:
            guest.close()


async def _measured(
    config: MigrationConfig, guest: Guest, say: Callable[[str], None]
) -> PredictionReport:
    """Measure the guest as a source agent does after the warm-up."""
    from pageferry.source_agent.prediction import predict as predicting

    if config.dirty_tracker == "kernel":
        guest.track_by_kernel()  # before the warm-up, as in a migration
    guest.start()
    booted = guest.progress()
    guest.resume()
    say("warming up")
    await asyncio.sleep(config.warmup)
    say("measuring the guest")
    return await predicting.measure_and_predict(
        config,
        guest,
        booted=booted,
        rtt_s=0.0,
        loopback=True,
        blocking=asyncio.to_thread,
        pause=asyncio.sleep,
    )
