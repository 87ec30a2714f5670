"""`pageferry inject list`: where agents can be made to fail, and how."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from pageferry.common.command_line.run import JsonOptions
from pageferry.common.errors import EXIT_OK
from pageferry.common.inject import ACTIONS, POINTS
from pageferry.runs.tables import print_notes, wide_console

if TYPE_CHECKING:
    from cyclopts import App

_NOTES = [
    "--inject [AGENT/]POINT:ACTION, as often as wanted; each fault happens once.",
    "N is a number. A point that both agents have is written source/POINT or dest/POINT.",
    "Example: pageferry migrate --inject commit-sent:cut --inject dest/postcopy-50%:stall:2s",
]


def points_document() -> dict[str, Any]:
    """Make what `--json` writes: all points and actions.

    Returns:
        A JSON object; `points` in the order of a migration, `actions` with the agent that alone has
        them as `only` (None: both have them).
    """
    return {
        "schema_version": 1,
        "points": [
            {"agent": point.agent, "point": point.pattern, "meaning": point.meaning}
            for point in POINTS
        ],
        "actions": [
            {"action": each.usage, "meaning": each.meaning, "only": each.only}
            for each in ACTIONS.values()
        ],
    }


def list_points(*, options: Annotated[JsonOptions | None, Parameter(name="*")] = None) -> int:
    """List the points at which --inject can make an agent fail, and what it can do there.

    Args:
        options: Where the result goes; None is the terminal only.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: The file cannot be written.
    """
    options = options or JsonOptions()
    with options.opened() as file:
        if options.json_file != "-":
            _print()
        if file is not None:
            file.write(json.dumps(points_document(), indent=2) + "\n")
    return EXIT_OK


def _print() -> None:
    from rich.table import Table

    console = wide_console()
    points = Table(title="Points", title_justify="left", pad_edge=False)
    points.add_column("agent")
    points.add_column("point", style="bold", no_wrap=True)
    points.add_column("when")
    for point in POINTS:
        points.add_row(point.agent, point.pattern, point.meaning)
    actions = Table(title="Actions", title_justify="left", pad_edge=False)
    actions.add_column("action", style="bold", no_wrap=True)
    actions.add_column("what happens")
    for each in ACTIONS.values():
        only = f" ({each.only} only)" if each.only else ""
        # Brackets are markup to rich.
        actions.add_row(each.usage.replace("[", r"\["), each.meaning + only)
    console.print(points)
    console.print(actions)
    print_notes(console, _NOTES)


inject_app: Final = App(name="inject", help="Fault injection: what --inject can do, and where.")
inject_app.command(list_points, name="list")
