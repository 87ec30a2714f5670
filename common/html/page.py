"""The page: what the template is given, and the one place where scripts come in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pageferry._version import __version__
from pageferry.common.html import (
    comparison,
    formatting,
    guest,
    palette,
    postcopy,
    run_tables,
    sentences,
    transfer,
)
from pageferry.common.html.packing import pack_events, packed, packed_json
from pageferry.common.html.picture import Picture
from pageferry.common.report.schema import Report
from pageferry.common.report.summary import headline, is_simulated, outcome
from pageferry.common.terminal.console import result_rows

# A script runs only if it is, byte for byte, one of ours: whatever a report says stays text.
_POLICY: Final = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:;"
    " base-uri 'none'; form-action 'none'"
)
_WRAPPER: Final = '} (typeof self !== "undefined" ? self : this, () => {\n'
_WRAPPER_END: Final = "return Plotly;\n}));"


@dataclass(frozen=True, slots=True)
class PageRun:
    """A report, and what it is called beside others.

    Attributes:
        label: The run's name.
        report: Of the run.
        case: The configuration that it is one of several runs of.
    """

    label: str
    report: Report
    case: str


def draw_run(report: Report) -> list[Picture]:
    """Draw everything about one run.

    Args:
        report: Of the run; pictures of a simulation say in their titles what they are.

    Returns:
        The pictures, in the order of the page.
    """
    found = _pictures(report)
    return [mark_simulated(each) for each in found] if is_simulated(report) else found


# What a simulation has no picture of, and why.
_UNKNOWN: Final = {
    "heat": "A simulation knows how many pages change, and not where in memory they are.",
    "cache": "A simulation knows how many pages change, and not where in memory they are.",
    "latency": "A simulation knows what a fault takes on average, and not how they differ.",
    "rounds": "No round would be sent: memory goes over after the switch.",
}


def mark_simulated(picture: Picture) -> Picture:
    """Mark a picture as that of a simulation.

    Args:
        picture: Is not changed.

    Returns:
        The same, marked in its title; where there is none, with the reason for simulations.
    """
    missing = picture.missing
    if missing and picture.title != "Post-copy":
        missing = _UNKNOWN.get(picture.key, missing)
    return replace(picture, title=f"{picture.title} (simulated)", missing=missing)


def _pictures(report: Report) -> list[Picture]:
    """Draw everything about one run, simulated or not."""
    return [
        *guest.draw_speed(report),
        transfer.draw_downtime(report),
        transfer.draw_rounds(report),
        transfer.draw_activity(report),
        *postcopy.draw_postcopy(report),
        transfer.draw_writes_by_address(report),
    ]


def make_page(
    runs: Sequence[PageRun],
    *,
    title: str,
    tables: Sequence[Mapping[str, object]],
    notes: Sequence[str],
    together: Sequence[Picture] = (),
    simulation: bool = False,
) -> str:
    """Make the text of the page.

    Args:
        runs: In the order of the page; there may be none.
        title: Of a page of several runs, or of none.
        tables: As `common.html.render` takes them; so are the notes.
        notes: Sentences below the tables.
        together: Pictures of all runs together.
        simulation: Whether everything was simulated, where no report can say it.

    Returns:
        An HTML document.
    """
    reports = [run.report for run in runs]
    played = [is_simulated(report) for report in reports]
    if any(played) and not all(played):
        runs = [_marked(run) if each else run for run, each in zip(runs, played, strict=True)]
    simulation = simulation or (bool(played) and all(played))
    several = len(runs) > 1
    compared = comparison.draw_comparison([run.case for run in runs], reports) if several else []
    if simulation:
        compared = [mark_simulated(each) for each in compared]
        together = [mark_simulated(each) for each in together]
    elif any(played):
        compared = [replace(each, title=f"{each.title} (some simulated)") for each in compared]
    template = _environment().get_template("page.html.j2")
    return template.render(
        **_constant(),
        title=title if several or not runs else headline(reports[0]),
        simulation=simulation,
        made_by=_made_by(simulation, mixed=any(played)),
        tables=tables,
        beside=comparison.table([run.label for run in runs], reports),
        notes=notes,
        pictures=compared,
        compared=_figures(compared) if compared else "",
        together=together,
        together_figures=_figures(together) if together else "",
        runs=[_run(number, run) for number, run in enumerate(runs)],
        several=several,
    )


def _constant() -> dict[str, object]:
    """Collect what every page has: styles, scripts, and the policy that lets just these run."""
    script = _text("page.js")
    plotly, code = _plotly()
    return {
        "version": __version__,
        "policy": _POLICY.format(scripts=f"'{code}' '{_hash(script)}'"),
        "css": Markup(palette.css() + _text("page.css")),  # noqa: S704 - our own
        "script": Markup(script),  # noqa: S704 - our own
        "plotly": plotly,
    }


def _marked(run: PageRun) -> PageRun:
    """Mark a simulation among measured runs."""
    return replace(run, label=f"{run.label} (simulated)", case=f"{run.case} (simulated)")


def _made_by(simulation: bool, *, mixed: bool) -> str:
    """Return the beginning of the page's last line."""
    if simulation:
        return "Simulated"
    return "Measured, and simulated where a run says so," if mixed else "Measured"


def _run(number: int, run: PageRun) -> dict[str, Any]:
    """Collect what the template shows of one run."""
    report = run.report
    found = draw_run(report)
    pages = report.pages
    return {
        "id": f"run{number}",
        "label": run.label,
        "headline": headline(report),
        "report": report,
        "good": report.outcome == "completed" and report.verified is not False,
        "summary": _summary(report),
        "simulated": is_simulated(report),
        "made": sentences.made(report),
        "verdict": sentences.verdict(report),
        "vitals": run_tables.vitals(report),
        "pictures": found,
        "figures": _figures(found),
        "result": result_rows(report),
        "decisions": run_tables.decisions(report),
        "rounds": run_tables.rounds_table(report),
        "ways": run_tables.ways(report),
        "checked": any(each.taken for each in report.estimates),
        "oracle": sentences.oracle_sentence(report),
        "predicted": run_tables.predicted(report),
        "prediction": sentences.prediction_sentence(report),
        "absorbed": sentences.cache_sentence(report),
        "hottest": pages.hottest if pages else [],
        "counted": bool(pages and pages.writes is not None),
        "configuration": run_tables.configuration(report),
        "events": pack_events(report.events),
    }


def _summary(report: Report) -> str:
    """Sum a run up in a line."""
    parts: list[str] = [outcome(report)]
    if report.downtime_ms is not None:
        parts.append(f"{formatting.duration(report.downtime_ms)} down")
    if report.total_time_ms is not None:
        parts.append(f"{formatting.duration(report.total_time_ms)} in all")
    return " · ".join([*parts, formatting.size(report.bytes_on_wire)])


def _figures(found: Sequence[Picture]) -> str:
    """Pack the figures of pictures, by their keys."""
    return packed_json({each.key: each.figure for each in found if each.figure is not None})


def _text(name: str) -> str:
    """Read one of the page's own files."""
    return (files("pageferry.common.html") / "templates" / name).read_text("utf-8")


def _hash(script: str) -> str:
    """Name a script as a Content-Security-Policy does."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def unwrapped(code: str) -> str:
    """Strip plotly of the function around it, which is for other loaders.

    A browser reads what is in such a function twice before it runs it: a quarter of its start.

    Args:
        code: Of plotly.js.

    Returns:
        The same with its licence in front; `code` as it is where it does not look as expected.
    """
    comment, opening, rest = code.partition(_WRAPPER)
    inside, closing, after = rest.rpartition(_WRAPPER_END)
    if not (opening and closing) or after.strip():
        return code
    licence, end, _ = comment.rpartition("*/")
    return f"{licence}{end}\n{inside}"


@cache
def _plotly() -> tuple[str, str]:
    """Return the library, packed, and its hash."""
    code = unwrapped(get_plotlyjs())
    return packed(code.encode()), _hash(code)


@cache
def _environment() -> Environment:
    """Make the template's environment: all is escaped, and a name that is missing is an error."""
    environment = Environment(
        loader=PackageLoader("pageferry.common.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    return environment
