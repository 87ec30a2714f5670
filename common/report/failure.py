"""A failed migration with what was measured of it: what the API raises.

Not in `common.errors`, which parts that may know no report import, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pageferry.common.errors import PageferryError

if TYPE_CHECKING:
    from pageferry.common.report.schema import Report


class MigrationError(PageferryError):
    """A migration did not end as it should have: where the command's exit code is not 0.

    Attributes:
        exit_code: Of the command: 1 failed, 3 not verified, 4 in doubt or lost, 5 a limit was
            missed and `enforce` was given, 130 cancelled.
        report: What was measured until then; None where there is no report.
    """

    def __init__(self, message: str, exit_code: int, report: Report | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.report = report
