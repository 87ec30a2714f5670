"""Hooks of mkdocs (mkdocs.yml): what the site has beside the files of docs/.

README.md, CONTRIBUTING.md and others lie where a code host looks for them, and link to files as it
shows them. Here they become pages, and every link of every page is turned into what it is in the
site: a page, or, of a file that is none, a copy of that file. So a link is written once, as it
works in the repository.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import re
from collections.abc import Iterator
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from scripts import docs_reference
from scripts.docs_links import PROJECT, relinked, unescaped
from scripts.docs_workloads import table

_LOG: Final = logging.getLogger("mkdocs.hooks.docs_site")
DOCS: Final = "docs/"
COPIES: Final = "files/"  # of what is linked and is no page
# Of files that are not in docs/: where their pages are.
PAGES: Final = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security-policy.md",
    "examples/README.md": "examples/index.md",
}
EXAMPLES: Final = {
    str(path.relative_to(PROJECT)): f"examples/{path.stem}.md"
    for path in sorted((PROJECT / "examples").rglob("*"))
    if path.suffix in (".py", ".ipynb")
}
_DIAGRAM: Final = re.compile(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STATE: Final = re.compile(r'state "([^"]+)" as (\w+)')
_STEP: Final = re.compile(r"^ *(\S+) --> (\S+?)(?:: (.*))?$", re.MULTILINE)
_HERE: Final = {place: name for name, place in {**PAGES, **EXAMPLES}.items()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for name, place in PAGES.items():
        files.append(File.generated(config, place, content=_read(name)))
    for name, place in EXAMPLES.items():
        files.append(File.generated(config, place, content=example(name)))
    for name, text in docs_reference.pages():
        files.append(File.generated(config, f"reference/{name}", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that were written for the repository into those of the site."""
    place = page.file.src_uri
    if place == PAGES["README.md"]:
        page.meta["hide"] = ["navigation"]  # it would be empty
    markdown = _DIAGRAM.sub(lambda found: transitions(found[1]), unescaped(markdown))
    if place.startswith("reference/"):
        return markdown
    source = _HERE.get(place, DOCS + place)

    def change(path: str, anchor: str) -> str:
        if not path:
            return f"#{anchor}"
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        found = _in_site(target, config, files)
        if found is None:
            _LOG.warning("%s has a link to %s, which is not there", source, target)
            return path
        there = posixpath.relpath(found, posixpath.dirname(place) or ".")
        return f"{there}#{anchor}" if anchor else there

    return relinked(markdown, change)


def _in_site(target: str, config: MkDocsConfig, files: Files) -> str | None:
    """Where a file of the repository is in the site; None: there is no such file."""
    if os.path.isdir(PROJECT / target):
        target = posixpath.join(target, "README.md")
    place = PAGES.get(target) or EXAMPLES.get(target)
    if place is None and target.startswith(DOCS):
        place = target.removeprefix(DOCS)
    if place is None and os.path.isfile(PROJECT / target):
        place = COPIES + target
        if files.get_file_from_path(place) is None:
            files.append(File.generated(config, place, abs_src_path=str(PROJECT / target)))
    return place if place and files.get_file_from_path(place) else None


def transitions(diagram: str) -> str:
    """A state diagram as a table: a site that fetches nothing has nobody who draws it."""
    names = {name: shown for shown, name in _STATE.findall(diagram)}
    rows, last = [], ""
    for before, after, events in _STEP.findall(diagram):
        said = "" if before == last else f"**{names.get(before, 'at first')}**"
        rows.append((said, events or "", names.get(after, "the end")))
        last = before
    return table(("state", "event", "then"), rows)


def example(name: str) -> str:
    """An example's page: a module as it is, a notebook's cells one after another."""
    if name.endswith(".py"):
        title = name.removeprefix("examples/")
        return f"# `{title}`\n\n```python\n{_read(name)}```\n"
    return "\n\n".join(_cells(json.loads(_read(name))))


def _cells(notebook: dict[str, Any]) -> Iterator[str]:
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        yield f"```python\n{text}\n```" if cell["cell_type"] == "code" else text


def _read(name: str) -> str:
    return (PROJECT / name).read_text("utf-8")
