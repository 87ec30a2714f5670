"""Where the results of several migrations go: a table, a JSON document, an HTML report."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from cyclopts import Parameter
from pydantic import BaseModel, Field

from common.cli import OutputOptions, ReportFile
from common.errors import UsageError
from common.report import Report


class SeriesOutput(OutputOptions):
    """Where the results of several migrations and their progress go."""

    json_file: Annotated[
        str | None,
        Parameter(name="--json", allow_leading_hyphen=True),
        Field(description="write the results as JSON to this FILE; -: only JSON on stdout"),
    ] = None
    html_file: Annotated[
        str | None,
        Parameter(name="--html"),
        Field(description="write a self-contained HTML report to this FILE"),
    ] = None


class SeriesDocument(BaseModel):
    """What `--json` writes. runs: every report, failed ones too; a row of `table` points at its
    runs by index. interrupted: whether some runs are missing because the user ended the series."""

    schema_version: Literal[1] = 1
    runs: list[Report]
    table: list[dict[str, Any]]
    interrupted: bool = False


class SeriesFiles:
    """The files of `--json` and `--html`, opened before the first run. Raises `UsageError`."""

    def __init__(self, output: SeriesOutput) -> None:
        self._stack = contextlib.ExitStack()
        self._json: ReportFile | None = None
        self._html: ReportFile | None = None
        self.table_wanted = output.json_file != "-"
        if output.html_file is not None:
            if output.html_file == "-":
                raise UsageError("--html needs the name of a file, not -")
            _find_renderer()
        with self._stack:
            if output.json_file is not None:
                self._json = self._stack.enter_context(ReportFile(output.json_file))
            if output.html_file is not None:
                self._html = self._stack.enter_context(ReportFile(output.html_file, "--html"))
            self._stack = self._stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(
        self,
        document: SeriesDocument,
        *,
        title: str,
        labels: Sequence[str],
        tables: Sequence[Mapping[str, object]],
    ) -> None:
        """Both, where they are asked for. labels: one for each of the document's runs."""
        if self._json is not None:
            self._json.write(document.model_dump_json(indent=2) + "\n")
        if self._html is not None:
            render = _find_renderer()
            self._html.write(render(document.runs, title=title, labels=labels, tables=tables))


def _find_renderer() -> Callable[..., str]:
    """`lab.html.render`. Raises `UsageError` where what it needs is not installed."""
    try:
        render: Callable[..., str] = importlib.import_module("lab.html").render
    except ModuleNotFoundError as error:
        raise UsageError(f"--html needs {error.name}: pip install {error.name}") from None
    return render
