"""Several reports as one object: what `compare` and `sweep` return."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, overload

from pageferry.common.errors import EXIT_CANCELLED, EXIT_FAILED, EXIT_NOT_VERIFIED, EXIT_OK
from pageferry.common.report.failure import MigrationError
from pageferry.common.report.schema import Report
from pageferry.runs.document import SeriesDocument
from pageferry.runs.results import labels_of, plain_sheets, read_result

if TYPE_CHECKING:
    from pageferry.common.report.frames import Library, ValueKind

# The fields of a report that a row of `Reports.frame` has.
_COLUMNS: Final[dict[str, ValueKind]] = {
    "strategy": "text",
    "path": "int",
    "outcome": "text",
    "error": "text",
    "converged": "bool",
    "downtime_ms": "float",
    "downtime_error_ms": "float",
    "total_time_ms": "float",
    "setup_ms": "float",
    "bytes_on_wire": "int",
    "pages_sent": "int",
    "zero_pages": "int",
    "pages_resent": "int",
    "lines_sent": "int",
    "bytes_saved": "int",
    "verified": "bool",
}


class Reports(Sequence[Report]):
    """The reports of several runs, in the order in which they were made, and their table.

    A run that failed before it had a report is in the table, and has no report.

    Args:
        document: What `--json` writes.
        exit_code: Of the command; None takes what the document says.

    Attributes:
        labels: One for each report.
        cases: For each report, the configuration that it is a run of.
        exit_code: Of the command that would have made them: 0 where all is well.
    """

    def __init__(self, document: SeriesDocument, exit_code: int | None = None) -> None:
        self._document = document
        self.labels, self.cases = labels_of(document)
        self.exit_code = _exit_code(document) if exit_code is None else exit_code

    @overload
    def __getitem__(self, place: int) -> Report: ...

    @overload
    def __getitem__(self, place: slice) -> list[Report]: ...

    def __getitem__(self, place: int | slice) -> Report | list[Report]:
        """Return the report at a place, or those of a slice."""
        return self._document.runs[place]

    def __len__(self) -> int:
        """Return how many reports there are."""
        return len(self._document.runs)

    def __repr__(self) -> str:
        """Say how many there are, and of what."""
        return f"<Reports: {len(self)} of {', '.join(dict.fromkeys(self.cases)) or 'no run'}>"

    @property
    def table(self) -> list[dict[str, Any]]:
        """A row for each case, or each cell of a sweep; `runs` has the places of its reports."""
        return self._document.table

    @property
    def notes(self) -> list[str]:
        """What a person should know of them, a sentence each."""
        return self._document.notes

    @property
    def interrupted(self) -> bool:
        """Whether runs are missing because it was cancelled."""
        return self._document.interrupted

    @property
    def errors(self) -> list[str]:
        """What went wrong, a line for each failure, with the case that it is of."""
        return [
            f"{row.get('label')}: {error}"
            for row in self.table
            for error in row.get("errors") or ([row["error"]] if row.get("error") else [])
        ]

    def of(self, case: str) -> list[Report]:
        """List the reports of one case.

        Args:
            case: The label of the case.

        Returns:
            Its reports; none where no case has that label.
        """
        return [run for run, name in zip(self, self.cases, strict=True) if name == case]

    def check(self) -> Self:
        """Raise where something went wrong, as `migrate` does for one run.

        Returns:
            Itself, where all is well.

        Raises:
            MigrationError: With the command's exit code, and the first report that failed.
        """
        if self.exit_code == EXIT_OK:
            return self
        bad = [run for run in self if run.outcome != "completed" or run.verified is False]
        words = "; ".join(self.errors) or "some runs missed a limit, or are missing"
        raise MigrationError(words, self.exit_code, bad[0] if bad else None)

    def frame(self, library: Library | None = None) -> Any:
        """Make a frame with a row for each report: its label, its case and its figures.

        Args:
            library: `"pandas"` or `"polars"`; None takes what is imported, else what is installed.

        Returns:
            A `DataFrame` of that library.

        Raises:
            UsageError: No such library is installed; the message says how to install one.
        """
        from pageferry.common.report.frames import make_frame

        rows = [
            {"label": label, "case": case, **{name: getattr(run, name) for name in _COLUMNS}}
            for label, case, run in zip(self.labels, self.cases, self, strict=True)
        ]
        return make_frame({"label": "text", "case": "text", **_COLUMNS}, rows, library)

    def table_frame(self, library: Library | None = None) -> Any:
        """Make a frame of the table, a row for each case or cell.

        Args:
            library: As in `frame`.

        Returns:
            A `DataFrame` of that library.

        Raises:
            UsageError: As in `frame`.
        """
        from pageferry.common.report.frames import kinds_of_rows, make_frame

        return make_frame(kinds_of_rows(self.table), self.table, library)

    def to_json(self) -> str:
        """Return what `compare --json` writes of them.

        Returns:
            Indented JSON with one trailing newline.
        """
        return self._document.to_json()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them as JSON, which `pageferry report` can read.

        Args:
            path: The file. It appears whole or not at all; one that is there is replaced.

        Raises:
            UsageError: It can't be written.
        """
        from pageferry.common.files.report_files import save

        save(path, "the reports", self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save`, or `--json` of `compare`, `reproduce` or `migrate`, has written.

        Args:
            path: The file. The report of one migration is read as a series of one.

        Returns:
            The reports; their exit code is what the file tells.

        Raises:
            UsageError: It can't be read, or is not a result; one line with the place in it.
        """
        found = read_result(Path(os.path.abspath(path)))
        if isinstance(found, Report):
            row = {"label": found.strategy, "runs": [0], "outcome": found.outcome}
            found = SeriesDocument(runs=[found], table=[row])
        return cls(found)

    def _repr_html_(self) -> str:
        """Show the table and each guest's speed in a notebook."""
        from pageferry.common.html.notebook import reports_fragment

        document = self._document
        sheets = document.sheets or plain_sheets("runs", document.table)
        tables = [(each.title, each.columns, each.rows) for each in sheets]
        return reports_fragment(tables, self.notes, list(zip(self.labels, self, strict=True)))


def _exit_code(document: SeriesDocument) -> int:
    """Compute the exit code, as far as a document tells it."""
    if document.interrupted:
        return EXIT_CANCELLED
    if any(run.verified is False for run in document.runs):
        return EXIT_NOT_VERIFIED
    outcomes = [run.outcome for run in document.runs]
    outcomes += [row["outcome"] for row in document.table if "outcome" in row]
    return EXIT_OK if all(each == "completed" for each in outcomes) else EXIT_FAILED
