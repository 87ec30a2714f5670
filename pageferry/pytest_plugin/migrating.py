"""`pageferry_migrate`: migrations of small guests, held to the test's limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

from pageferry.api.functions import migrate
from pageferry.common.config.model import MigrationConfig
from pageferry.common.report.schema import Report
from pageferry.pytest_plugin.limits import FigureLimits

if TYPE_CHECKING:
    from pageferry.api.options import MigrateOptions
    from pageferry.api.running import OnStatus

# A test should take a second: what it does not set is taken from here, not from the command.
SMALL: Final[dict[str, Any]] = {"memory": 16 * 2**20, "warmup": 0.1, "run_after": 0.1}


def small(config: MigrationConfig | None, options: dict[str, Any]) -> dict[str, Any]:
    """Add what makes a migration quick to options that do not say otherwise.

    Args:
        config: What it sets itself is left as it is; None for no configuration.
        options: Keywords of `pageferry.migrate`; not changed.

    Returns:
        The options, completed from `SMALL`.
    """
    given = set(options) | (set() if config is None else config.model_fields_set)
    return {name: value for name, value in SMALL.items() if name not in given} | options


class Migrate:
    """Migrates when it is called, as `pageferry.migrate` does.

    Args:
        folder: Where each migration's logs go, in a folder of its own.
        limits: The test's, to which every report is held.

    Attributes:
        reports: Of the migrations that it has made in this test, in order.
    """

    def __init__(self, folder: Path, limits: FigureLimits) -> None:
        self.reports: list[Report] = []
        self._folder = folder
        self._limits = limits
        self._count = 0

    def __call__(
        self,
        config: MigrationConfig | None = None,
        *,
        on_status: OnStatus | None = None,
        **options: Unpack[MigrateOptions],
    ) -> Report:
        """Migrate a guest; see `pageferry.migrate`. The test fails if a limit is missed.

        Args:
            config: What neither this nor `options` sets is taken from `SMALL`; None sets nothing.
            on_status: Takes each status of the migration; None for nobody.
            options: As in `pageferry.migrate`; without `log_dir`, logs go to the test's folder.

        Returns:
            The report.

        Raises:
            MigrationError: The migration failed.
            UsageError: An option is wrong.
        """
        chosen = small(config, dict(options))
        if "log_dir" not in chosen:
            self._count += 1
            logs = self._folder / f"migration-{self._count}"
            logs.mkdir()
            chosen["log_dir"] = logs
        report = migrate(config, on_status=on_status, **chosen)
        self.reports.append(report)
        return self._limits.check(report)
