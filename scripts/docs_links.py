"""Links and headings of Markdown, as a code host reads them: for the site, and to check them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

PROJECT: Final = Path(__file__).resolve().parents[1]
_LINK: Final = re.compile(r"(?<=\]\()([^()\s]+)(?=(?: \"[^\"]*\")?\))")
_CODE: Final = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_FENCE: Final = re.compile(r" *(```+|~~~+)")
_HEADING: Final = re.compile(r"#{1,6} +(.*?) *#*$")
_ELSEWHERE: Final = re.compile(r"[a-z][a-z0-9+.-]*:|//")


@dataclass(frozen=True, slots=True)
class Link:
    """A link to something of this project: line, from 1 on; path, empty: the page itself."""

    line: int
    path: str
    anchor: str


def _prose(text: str) -> Iterator[tuple[int, str, bool]]:
    """Each line: its number, its text, and whether it is prose, and no code in a fence."""
    fence = ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        found = _FENCE.match(line)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence):
            fence = ""
        else:
            yield number, line, not fence
            continue
        yield number, line, False


def unescaped(text: str) -> str:
    """The text with `|` for `\\|` in the code of tables: Python-Markdown reads it as it stands."""

    def plain(line: str) -> str:
        return _CODE.sub(lambda code: code[0].replace("\\|", "|"), line)

    rows = ((line, prose and line.startswith("|")) for _, line, prose in _prose(text))
    return "".join(plain(line) if row else line for line, row in rows)


def _hidden(line: str) -> str:
    """The line with its `code` blanked, which has no links; as long as before."""
    return _CODE.sub(lambda code: " " * len(code[0]), line)


def links(text: str) -> Iterator[Link]:
    """Every link that stays within the project."""
    for number, line, prose in _prose(text):
        for target in _LINK.findall(_hidden(line)) if prose else ():
            if not _ELSEWHERE.match(target):
                path, _, anchor = target.partition("#")
                yield Link(number, unquote(path), anchor)


def relinked(text: str, change: Callable[[str, str], str]) -> str:
    """The text with other targets; change: from path and anchor to what is to stand there."""

    def changed(line: str) -> str:
        out, end = "", 0
        for found in _LINK.finditer(_hidden(line)):
            target = line[found.start() : found.end()]
            if not _ELSEWHERE.match(target):
                path, _, anchor = target.partition("#")
                target = change(unquote(path), anchor)
            out += line[end : found.start()] + target
            end = found.end()
        return out + line[end:]

    return "".join(changed(line) if prose else line for _, line, prose in _prose(text))


def anchors(text: str) -> set[str]:
    """What a link to a heading of this text may name, as code hosts form it."""
    seen: Counter[str] = Counter()
    out = set()
    for _, line, prose in _prose(text):
        found = _HEADING.match(line) if prose else None
        if found:
            name = slug(found[1])
            out.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return out


def slug(heading: str) -> str:
    """Small letters, hyphens for blanks; of all else only letters, digits, `_` and `-` stay."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return "".join(each for each in shown if each.isalnum() or each in " -_").replace(" ", "-")
