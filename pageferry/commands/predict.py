"""`pageferry predict`: what a migration would cost, without one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import BaseModel, Field

from pageferry.common.command_line.run import JsonOptions, tell
from pageferry.common.config.model import Duration, MigrationConfig
from pageferry.common.errors import EXIT_OK
from pageferry.common.process import signals
from pageferry.common.process.status import Status
from pageferry.common.report.schema import PredictionReport
from pageferry.common.terminal.progress import ProgressOptions

if TYPE_CHECKING:
    from pageferry.common.guest.machine import Guest


class PredictConfig(MigrationConfig):
    """A migration that is not made."""

    predict: Annotated[bool, Parameter(parse=False)] = True
    predict_time: Annotated[
        Duration,
        Parameter(name=("--measure", "--predict-time")),
        Field(ge=0.05, le=3600, description="TIME for which the guest is measured"),
    ] = 1.0


class PredictOutput(ProgressOptions, JsonOptions):
    """Where the prediction goes, and progress."""


class PredictDocument(BaseModel):
    """What `--json` writes. config: every option as used."""

    schema_version: Literal[1] = 1
    config: dict[str, Any]
    prediction: PredictionReport

    def to_json(self) -> str:
        """Indented JSON, one trailing newline."""
        return self.model_dump_json(indent=2) + "\n"


def predict(
    *,
    config: Annotated[PredictConfig | None, Parameter(name="*")] = None,
    output: Annotated[PredictOutput | None, Parameter(name="*")] = None,
) -> int:
    """Boot a guest, measure it for a moment, and say what each strategy would cost to move it.

    No destination is needed, and nothing is moved. The bandwidth that is reckoned with is
    --max-bandwidth, or --assume-bandwidth where that is less, and never more than this machine
    was seen to send over loopback while the guest ran. A destination that is far away adds its
    round trip to each round and to the downtime.
    """
    from pageferry.common.report.binding_limit import over
    from pageferry.common.terminal.console import ProgressView
    from pageferry.common.terminal.prediction import print_prediction
    from pageferry.runs.tables import wide_console

    config, output = config or PredictConfig(), output or PredictOutput()
    config = over(config, config.assume_bandwidth or math.inf)
    tell([config], quiet=output.quiet)
    with output.opened("the prediction") as file:
        with ProgressView(output.wish) as view:
            made = _run(config, lambda phase: view.update(Status(phase=phase)))
        if output.json_file != "-":
            print_prediction(made, wide_console())
        if file is not None:
            file.write(PredictDocument(config=_shown(config), prediction=made).to_json())
    return EXIT_OK


def _shown(config: PredictConfig) -> dict[str, Any]:
    options = config.to_json()
    del options["predict"]
    return options


def _run(config: MigrationConfig, say: Callable[[str], None]) -> PredictionReport:
    import uvloop

    from pageferry.common.capacity.agents import check_guest, source_needs, start_agent

    start_agent(f"an agent with {config.vcpus} vCPU(s)", source_needs(config))
    from pageferry.common.guest.machine import Guest, compile_kernels, is_compiled

    check_guest(config.guest, compiled=is_compiled(config.workload))
    with signals.leaving("cancelled: nothing was predicted, and no guest is left"):
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
    """As a source agent does after its guest's warm-up."""
    from pageferry.source_agent.prediction import predict as predicting

    if config.dirty_tracker == "kernel":
        guest.track_by_kernel()  # as in a migration, the guest warms up so
    guest.start()
    booted = guest.progress()
    guest.resume()
    say("warming up")
    await asyncio.sleep(config.warmup)
    say("measuring the guest")
    return await predicting.predict(
        config,
        guest,
        booted=booted,
        rtt_s=0.0,
        loopback=True,
        blocking=asyncio.to_thread,
        pause=asyncio.sleep,
    )
