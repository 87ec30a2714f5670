"""Pages of the site that are made of the code: which public name is on which, and its keywords."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from scripts.docs_links import PROJECT, slug
from scripts.docs_workloads import table

OPTIONS: Final = PROJECT / "pageferry/api/options.py"


@dataclass(frozen=True, slots=True)
class Group:
    """One page. entries: what it documents, in order; options: how, where not as all others."""

    page: str
    title: str
    text: str
    entries: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)


def _public(*names: str) -> tuple[str, ...]:
    return tuple(f"pageferry.{name}" for name in names)


_FIXTURES: Final = ("Migrate", "Destination", "Hosts", "Link")
_CALLED: Final = '{filters: ["!^_(?!_call__$|_getitem__$)"]}'
_SECTIONS: Final = tuple(
    f"pageferry.common.report.sections.{path.stem}"
    for path in sorted((PROJECT / "common/report/sections").glob("[a-z]*.py"))
    if path.stem != "base"
)

GROUPS: Final = (
    Group(
        "functions.md",
        "Functions",
        "What they share, and how a migration is ended early: [the Python API](../api.md). What"
        " can be given to them: [keywords](keywords.md).",
        _public("migrate", "compare", "predict", "simulate", "sweep"),
    ),
    Group(
        "aio.md",
        "Coroutines",
        "The same functions for code that awaits.",
        ("pageferry.aio",),
    ),
    Group(
        "results.md",
        "Options and results",
        "What a function takes and returns. The figures of a report: [results](../results.md).",
        _public("MigrationConfig", "Status", "Report", "Reports", "Prediction", "__version__"),
        # The fields of a configuration are the keywords; what a report can do, it has inherited.
        {
            "pageferry.MigrationConfig": "{members: false}",
            "pageferry.Report": "{inherited_members: true}",
        },
    ),
    Group(
        "report.md",
        "The parts of a report",
        "What the fields of a [`Report`](results.md#pageferry.Report) hold. As a JSON Schema:"
        " [report.schema.json](../report.schema.json).",
        _SECTIONS,
    ),
    Group(
        "errors.md",
        "Errors",
        "What the functions raise.",
        (
            *_public("PageferryError", "UsageError", "MigrationError", "Interrupted"),
            "pageferry.common.errors",
        ),
        {"pageferry.common.errors": '{filters: ["!^_", "!^PageferryError$", "!^UsageError$"]}'},
    ),
    Group(
        "strategies.md",
        "Strategies and workloads",
        "What a strategy sees and decides, and what a workload is. Both are shown by"
        " [examples](../examples/index.md).",
        _public(
            *("Strategy", "RoundStats", "RoundKind", "Decision"),
            *("NextRound", "StopAndCopy", "SwitchToPostCopy", "Workload"),
        ),
    ),
    Group(
        "pytest.md",
        "The pytest plug-in",
        "How it is used: [tests that migrate](../pytest.md).",
        (
            "pageferry.pytest_plugin",
            *_public(*(f"pytest_plugin.{name}" for name in _FIXTURES)),
            "pageferry.pytest_plugin.hosts.HostProcess",
        ),
        {
            "pageferry.pytest_plugin": '{filters: ["^pageferry_"]}',
            **{f"pageferry.pytest_plugin.{name}": _CALLED for name in _FIXTURES},
        },
    ),
)

_TITLES: Final = {
    "_Guest": "the guest",
    "_Strategy": "the strategy",
    "_Transfer": "how it travels",
    "_Run": "a run",
    "_Net": "the network",
    "_Tls": "keys of connections",
    "_Limits": "limits",
}


def pages() -> Iterator[tuple[str, str]]:
    """Each page: its name below `reference/`, its Markdown."""
    for group in GROUPS:
        entries = "\n".join(_entry(each, group.options.get(each)) for each in group.entries)
        yield group.page, f"# {group.title}\n\n{group.text}\n\n{entries}"
    yield "keywords.md", keywords(OPTIONS.read_text("utf-8"))


def _entry(name: str, options: str | None) -> str:
    return f"::: {name}\n" + (f"    options: {options}\n" if options else "")


def keywords(source: str) -> str:
    """The keywords of the functions, a table for each group of them that functions share."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    sections = {node.name: _section(node) for node in classes}
    bases = {
        node.name: [each.id for each in node.bases if isinstance(each, ast.Name)]
        for node in classes
    }
    out = [
        "# Keywords of the functions\n",
        'A size is bytes or text (`2**24`, `"16MiB"`), a rate bytes a second or text'
        ' (`"100MB/s"`), a time seconds or text (`"300ms"`), a share a fraction or text'
        ' (`"10%"`). A keyword that is left out is as on the command line.\n',
    ]
    shared = [name for name in sections if name.startswith("_")]
    for function in ("migrate", "compare", "predict", "simulate", "sweep"):
        name = f"{function.capitalize()}Options"
        among = [each for each in shared if each in _ancestors(name, bases)]
        named = [f"[{_TITLES[each]}](#{slug(_TITLES[each])})" for each in among]
        has = f"It has those of {', '.join(named)}, and" if named else "It has"
        out.append(f"## `{function}`\n\n{has}\n\n{sections[name]}")
    out += [f"## {_TITLES[each]}\n\n{sections[each]}" for each in shared]
    return "\n".join(out)


def _ancestors(name: str, bases: dict[str, list[str]]) -> set[str]:
    above = bases.get(name, [])
    return {*above}.union(*(_ancestors(each, bases) for each in above))


def _section(node: ast.ClassDef) -> str:
    """The table of a class's own fields: each is followed by the text that describes it."""
    rows = []
    for each, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(each, ast.AnnAssign):
            said = ast.literal_eval(text.value) if isinstance(text, ast.Expr) else ""
            name, kind = ast.unparse(each.target), _type(each.annotation)
            rows.append((f"`{name}`", f"`{kind}`", " ".join(str(said).split())))
    return table(("keyword", "type", "meaning"), rows)


def _type(annotation: ast.expr) -> str:
    """As it is written; of a `Literal` its values."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        values = (
            annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        )
        return ", ".join(ast.unparse(each).replace("'", '"') for each in values)
    return ast.unparse(annotation)
