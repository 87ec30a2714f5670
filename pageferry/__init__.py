"""A live-migration laboratory: real guest memory, real TCP, real page faults, measured downtime.

    >>> import pageferry
    >>> report = pageferry.migrate(memory="64MiB", workload="zipf:rate=40MB/s", strategy="pre-copy")
    >>> report.downtime_ms, report.rounds[-1].bytes

Five functions do what the commands of the same names do, and return what those print:

    migrate     move one live guest between two agents on this machine
    compare     move the same guest under several strategies
    predict     measure a guest, and estimate what each strategy would cost
    simulate    move one guest in virtual time
    sweep       run a grid of migrations from a plan

The names in `__all__` are stable. Names below a submodule are not, with two exceptions:
`pageferry.aio`, which has the same functions as coroutines, and `pageferry.pytest_plugin`, which
pytest finds by itself.
"""

from pageferry._version import __version__

# Import nothing from the standard library here: `python -m pageferry.cli` runs this module before
# the current folder, which may hold anything, is off `sys.path`. Type checkers take TYPE_CHECKING
# to be true, whatever is assigned.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from pageferry import aio as aio
    from pageferry.api.functions import compare as compare
    from pageferry.api.functions import migrate as migrate
    from pageferry.api.functions import predict as predict
    from pageferry.api.functions import simulate as simulate
    from pageferry.api.functions import sweep as sweep
    from pageferry.api.running import Interrupted as Interrupted
    from pageferry.common.config.model import MigrationConfig as MigrationConfig
    from pageferry.common.errors import PageferryError as PageferryError
    from pageferry.common.errors import UsageError as UsageError
    from pageferry.common.guest.workloads.base import Workload as Workload
    from pageferry.common.process.status import Status as Status
    from pageferry.common.report.failure import MigrationError as MigrationError
    from pageferry.common.report.schema import Report as Report
    from pageferry.common.strategy.base import Decision as Decision
    from pageferry.common.strategy.base import NextRound as NextRound
    from pageferry.common.strategy.base import RoundKind as RoundKind
    from pageferry.common.strategy.base import RoundStats as RoundStats
    from pageferry.common.strategy.base import StopAndCopy as StopAndCopy
    from pageferry.common.strategy.base import Strategy as Strategy
    from pageferry.common.strategy.base import SwitchToPostCopy as SwitchToPostCopy
    from pageferry.runs.prediction import Prediction as Prediction
    from pageferry.runs.reports import Reports as Reports

__all__ = [
    "Decision",
    "Interrupted",
    "MigrationConfig",
    "MigrationError",
    "NextRound",
    "PageferryError",
    "Prediction",
    "Report",
    "Reports",
    "RoundKind",
    "RoundStats",
    "Status",
    "StopAndCopy",
    "Strategy",
    "SwitchToPostCopy",
    "UsageError",
    "Workload",
    "__version__",
    "aio",
    "compare",
    "migrate",
    "predict",
    "simulate",
    "sweep",
]

# Where each name lives; it is imported on first use. `import pageferry` alone, which every agent's
# process does, loads neither pydantic nor numpy nor numba.
_HOMES = {
    **dict.fromkeys(("compare", "migrate", "predict", "simulate", "sweep"), "api.functions"),
    "Interrupted": "api.running",
    **dict.fromkeys(("PageferryError", "UsageError"), "common.errors"),
    "MigrationError": "common.report.failure",
    "MigrationConfig": "common.config.model",
    "Prediction": "runs.prediction",
    "Report": "common.report.schema",
    "Reports": "runs.reports",
    "Status": "common.process.status",
    "Workload": "common.guest.workloads.base",
    **dict.fromkeys(
        (
            *("Decision", "NextRound", "RoundKind", "RoundStats"),
            *("StopAndCopy", "Strategy", "SwitchToPostCopy"),
        ),
        "common.strategy.base",
    ),
}


if not TYPE_CHECKING:  # with it, a type checker would accept any attribute

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for (PEP 562)."""
        from importlib import import_module

        if name == "aio":
            return import_module("pageferry.aio")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List the public names, and what has been imported."""
    return sorted({*globals(), *__all__})
