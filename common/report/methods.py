"""What a `Report` can do beside being data: files, frames, and how a notebook shows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from pageferry.common.report.frames import Library
    from pageferry.common.report.schema import Report


class ReportMethods:
    """Methods of `Report`. Each imports what it needs: agents, which fill reports in, need none."""

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a report that `save` or `--json` of a command has written.

        Args:
            path: The file. Reports of every version with `schema_version` 1 can be read.

        Returns:
            The report, checked whole.

        Raises:
            UsageError: It can't be read, or is no report; one line with the place in it.
        """
        from pageferry.common.report.reading import read_report

        return cast("Self", read_report(Path(path)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON, which the commands read, too.

        Args:
            path: The file. It appears whole or not at all; one that is there is replaced.

        Raises:
            UsageError: It can't be written.
        """
        from pageferry.common.files.report_files import save

        save(path, "the report", self._report.to_json())

    def rounds_frame(self, library: Library | None = None) -> Any:
        """Make a frame of the rounds, a row each: see `RoundReport`.

        Args:
            library: `"pandas"` or `"polars"`; None takes what is imported, else what is installed.

        Returns:
            A `DataFrame` of that library.

        Raises:
            UsageError: No such library is installed; the message says how to install one.
        """
        from pageferry.common.report.sections.rounds import RoundReport

        return self._frame(RoundReport, self._report.rounds, library)

    def decisions_frame(self, library: Library | None = None) -> Any:
        """Make a frame of what the strategy decided, and why.

        Args:
            library: As in `rounds_frame`.

        Returns:
            A `DataFrame` with a row for each decision, in order.
        """
        from pageferry.common.report.sections.rounds import DecisionReport

        return self._frame(DecisionReport, self._report.decisions, library)

    def downtime_frame(self, library: Library | None = None) -> Any:
        """Make a frame of the downtime's parts.

        Args:
            library: As in `rounds_frame`.

        Returns:
            A `DataFrame` with a row for each part, in order.
        """
        from pageferry.common.report.sections.rounds import DowntimePart

        return self._frame(DowntimePart, self._report.downtime_parts, library)

    def timeline_frame(self, library: Library | None = None) -> Any:
        """Make a frame of the guest's speed.

        Args:
            library: As in `rounds_frame`.

        Returns:
            A `DataFrame` with a row for each sample.
        """
        from pageferry.common.report.sections.guest import TimelineSample

        return self._frame(TimelineSample, self._report.guest.timeline, library)

    def events_frame(self, library: Library | None = None) -> Any:
        """Make a frame of both agents' events.

        Args:
            library: As in `rounds_frame`.

        Returns:
            A `DataFrame` with a row for each event. A field of any kind of event is a column, null
            in the rows of the others.
        """
        from pageferry.common.report.schema import EventReport

        return self._frame(EventReport, self._report.events, library)

    def faults_frame(self, library: Library | None = None) -> Any:
        """Make a frame of post-copy's faults.

        Args:
            library: As in `rounds_frame`.

        Returns:
            A `DataFrame` with a row for each fault; none without `trace_faults=True`.
        """
        from pageferry.common.report.sections.postcopy import FaultTrace

        postcopy = self._report.postcopy
        trace = None if postcopy is None else postcopy.trace
        return self._frame(FaultTrace, trace or [], library)

    def fault_counts_frame(self, library: Library | None = None) -> Any:
        """Make a frame of how many faults took how long.

        Args:
            library: As in `rounds_frame`.

        Returns:
            A `DataFrame` with a row for each range of latencies that has faults.
        """
        from pageferry.common.report.sections.postcopy import FaultCount

        postcopy = self._report.postcopy
        return self._frame(FaultCount, postcopy.fault_counts if postcopy else [], library)

    def missing_frame(self, library: Library | None = None) -> Any:
        """Make a frame of the pages that were missing over time.

        Args:
            library: As in `rounds_frame`.

        Returns:
            A `DataFrame` with a row for each sample.
        """
        from pageferry.common.report.sections.postcopy import MissingSample

        postcopy = self._report.postcopy
        return self._frame(MissingSample, postcopy.missing if postcopy else [], library)

    def estimates_frame(self, library: Library | None = None) -> Any:
        """Make a frame of what other ways would have cost.

        Args:
            library: As in `rounds_frame`.

        Returns:
            A `DataFrame` with a row for each way.
        """
        from pageferry.common.report.sections.estimates import EstimateReport

        return self._frame(EstimateReport, self._report.estimates, library)

    def __repr__(self) -> str:
        """Say in a line what it is of, and how it ended; `to_json` has all of it."""
        from pageferry.common.report.summary import headline

        report = self._report
        down = report.downtime_ms
        ended = report.outcome if down is None else f"{report.outcome}, {down:.3g} ms down"
        return f"<Report: {headline(report)}: {ended}>"

    def _repr_html_(self) -> str:
        """Show the table and the guest's speed in a notebook."""
        from pageferry.common.html.notebook import report_fragment

        return report_fragment(self._report)

    @property
    def _report(self) -> Report:
        """The report itself."""
        return cast("Report", self)

    @staticmethod
    def _frame(model: type[BaseModel], parts: Sequence[BaseModel], library: Library | None) -> Any:
        """Make a frame of one part of the report."""
        from pageferry.common.report.frames import frame_of

        return frame_of(model, parts, library)
