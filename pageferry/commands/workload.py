"""`pageferry workload`: which workloads there are, and what each can be told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from pageferry.common.command_line.run import JsonOptions
from pageferry.common.errors import EXIT_OK
from pageferry.common.workload.mixes import BINS, MIXES, Mix
from pageferry.common.workload.registry import WORKLOADS
from pageferry.common.workload.spec import Spec

if TYPE_CHECKING:
    from rich.console import Console

_NOTES: Final = [
    "--workload NAME[:key=value,...], as in zipf:working-set=30%,rate=40MB/s.",
    "pageferry workload show NAME says what each key means.",
]
_CONTENT: Final = "zero-share=50%,entropy=40%"
_REAL: Final = f"{_CONTENT} is about what the memory of a small real guest looks like."


def workloads_document() -> dict[str, Any]:
    """Make what `--json` writes of all workloads.

    Returns:
        A JSON object: name, purpose, and options with their defaults of each workload.
    """
    return {
        "schema_version": 1,
        "workloads": [
            {
                "name": spec.name,
                "models": spec.models,
                "options": {key: option.default for key, option in spec.options.items()},
            }
            for spec in WORKLOADS.values()
        ],
    }


def workload_document(spec: Spec) -> dict[str, Any]:
    """Make what `--json` writes of one workload.

    Args:
        spec: The workload.

    Returns:
        A JSON object; `mixtures` is empty for a workload that takes none.
    """
    return {
        "schema_version": 1,
        "name": spec.name,
        "models": spec.models,
        "about": spec.about,
        "step": spec.step,
        "options": [
            {
                "key": key,
                "default": option.default or None,
                "form": option.reader.form,
                "unit": option.reader.unit or None,
                "range": option.reader.range,
                "meaning": option.meaning,
            }
            for key, option in spec.options.items()
        ],
        "mixtures": [_mixture(mix) for mix in MIXES.values()] if takes_mixes(spec) else [],
    }


def takes_mixes(spec: Spec) -> bool:
    """Tell whether a workload can write as many lines a visit as real guests change.

    Args:
        spec: The workload.

    Returns:
        Whether its `lines` takes a mixture.
    """
    return "lines" in spec.options and spec.options["lines"].reader.as_text


def _mixture(mix: Mix) -> dict[str, Any]:
    return {
        "name": mix.name,
        "load": mix.load,
        "mean_lines": mix.mean,
        "median_lines": mix.median,
        "pages": [
            {"least_lines": low, "most_lines": high, "pages": pages}
            for (low, high), pages in zip(BINS, mix.pages, strict=True)
        ],
    }


def list_(*, options: Annotated[JsonOptions | None, Parameter(name="*")] = None) -> int:
    """List the workloads that --workload can name, and their options with defaults.

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
            _print_list()
        if file is not None:
            file.write(json.dumps(workloads_document(), indent=2) + "\n")
    return EXIT_OK


def show(
    name: Annotated[str, Parameter(help="NAME of a workload, as pageferry workload list has it")],
    /,
    *,
    options: Annotated[JsonOptions | None, Parameter(name="*")] = None,
) -> int:
    """Show what a workload does, and what its options are: default, range and meaning.

    Args:
        name: The workload; what follows a colon is ignored.
        options: Where the result goes; None is the terminal only.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: There is no such workload, or the file cannot be written.
    """
    spec = WORKLOADS.find(name.partition(":")[0])
    options = options or JsonOptions()
    with options.opened() as file:
        if options.json_file != "-":
            _print(spec)
        if file is not None:
            file.write(json.dumps(workload_document(spec), indent=2) + "\n")
    return EXIT_OK


def _print_list() -> None:
    from rich.table import Table

    from pageferry.runs.tables import print_notes, wide_console

    table = Table(title="Workloads", title_justify="left", pad_edge=False)
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("models")
    table.add_column("options")
    for spec in WORKLOADS.values():
        written = [f"{key}={option.default}" for key, option in spec.options.items()]
        table.add_row(spec.name, spec.models, ", ".join(written) or "none")
    console = wide_console()
    console.print(table)
    print_notes(console, _NOTES)


def _print(spec: Spec) -> None:
    from pageferry.runs.tables import print_notes, print_text, wide_console

    console = wide_console()
    print_text(console, f"{spec.name}: {spec.models}\n\n{spec.about}\nA step is {spec.step}.\n")
    if not spec.options:
        print_text(console, "It has no options.")
        return
    _print_options(console, spec)
    notes = [_REAL] if "entropy" in spec.options else []
    if takes_mixes(spec):
        _print_mixes(console)
        notes.append("Mixtures: 64-byte lines that changed in each page that a guest had changed")
        notes[-1] += " within 100 ms."
    print_notes(console, notes)


def _print_options(console: Console, spec: Spec) -> None:
    from rich.table import Table

    table = Table(title="Options", title_justify="left", pad_edge=False)
    table.add_column("key", style="bold", no_wrap=True)
    table.add_column("default", no_wrap=True)
    for heading in ("written", "unit", "range", "meaning"):
        table.add_column(heading)
    for key, option in spec.options.items():
        reader = option.reader
        table.add_row(
            key, option.default or "-", reader.form, reader.unit, reader.range, option.meaning
        )
    console.print(table)


def _print_mixes(console: Console) -> None:
    from rich.table import Table

    table = Table(title="Mixtures of lines", title_justify="left", pad_edge=False)
    table.add_column("lines=", style="bold", no_wrap=True)
    table.add_column("mean", justify="right")
    table.add_column("median", justify="right")
    table.add_column("what the real guest did")
    for mix in MIXES.values():
        table.add_row(str(mix), f"{mix.mean:.1f}", f"{mix.median:g}", mix.load)
    console.print(table)


workload_app: Final = App(
    name="workload", help="Workloads: what the guest does, and the options of each."
)
workload_app.command(list_, name="list")
workload_app.command(show)
