"""A prediction: its options, its document, and one that is made in a process of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import BaseModel, Field

from pageferry.common.config.fields import Duration
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import (
    EXIT_CANCELLED,
    EXIT_USAGE,
    CancelledByUser,
    PageferryError,
    UsageError,
)
from pageferry.common.process import signals
from pageferry.common.process.notices import notify_once
from pageferry.common.process.status import Status
from pageferry.common.report.sections.prediction import PredictionReport
from pageferry.pair import ENDING_S, AgentProcess

CANCELLED = "cancelled: nothing was predicted, and no guest is left"


class PredictConfig(MigrationConfig):
    """A migration that is predicted and not run."""

    predict: Annotated[bool, Parameter(parse=False)] = True
    predict_time: Annotated[
        Duration,
        Parameter(name=("--measure", "--predict-time")),
        Field(ge=0.05, le=3600, description="TIME for which the guest is measured"),
    ] = 1.0


class Prediction(BaseModel):
    """What a migration would cost, without one: what `predict --json` writes.

    Attributes:
        schema_version: Of this document.
        config: Every option as used.
        prediction: What each strategy is expected to cost.
    """

    schema_version: Literal[1] = 1
    config: dict[str, Any]
    prediction: PredictionReport

    def to_json(self) -> str:
        """Write the document as JSON.

        Returns:
            Indented text with one trailing newline.
        """
        return self.model_dump_json(indent=2) + "\n"


def document_of(config: PredictConfig, made: PredictionReport) -> Prediction:
    """Put a prediction beside the options that it was made for.

    Args:
        config: The options.
        made: The prediction.

    Returns:
        The document.
    """
    options = config.to_json()
    del options["predict"]
    return Prediction(config=options, prediction=made)


def predict_apart(
    config: PredictConfig,
    show: Callable[[Status], None],
    say: Callable[[str], None] = notify_once,
) -> Prediction:
    """Boot and measure the guest in a process of its own, which is `pageferry predict`.

    Args:
        config: The guest, and what is assumed of the link.
        show: Called with each status.
        say: Called with each line that a person should see.

    Returns:
        The document that the process has made.

    Raises:
        CancelledByUser: It was asked to end.
        PageferryError: The process has failed; the error has its exit code and its one line.
    """
    agent = AgentProcess("pageferry.cli", ["predict", "--quiet", *config.flags()], ())
    try:
        with signals.received(lambda _number: agent.tell(signal.SIGINT)):
            code, said = agent.follow(show)
        words = agent.last_words() or agent.killed_by or "no reason given"
    finally:
        agent.tell(signal.SIGINT)
        agent.end(patience_s=ENDING_S)
    for line in agent.notices:
        say(line)
    if said is not None and not code:
        return Prediction.model_validate(said)
    if code == EXIT_CANCELLED:
        raise CancelledByUser(CANCELLED)
    failure = (UsageError if code == EXIT_USAGE else PageferryError)(words)
    failure.exit_code = code if code > 0 else failure.exit_code
    raise failure
