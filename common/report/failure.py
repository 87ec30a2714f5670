"""A failed migration with what was measured of it: what the API raises.

It is not in `common.errors`, which is also imported by parts that must not know reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pageferry.common.errors import PageferryError

if TYPE_CHECKING:
    from pageferry.common.report.schema import Report


class MigrationError(PageferryError):
    """A migration that did not end as it should have: the command's exit code is not 0.

    Args:
        message: One line for the user.
        exit_code: Of the command.
        report: What was measured.

    Attributes:
        exit_code: Of the command: 1 failed, 3 not verified, 4 in doubt or lost, 5 a limit was
            missed and `enforce` was given, 130 cancelled.
        report: What was measured until then; None where there is no report.
    """

    def __init__(self, message: str, exit_code: int, report: Report | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.report = report
