"""The commands that README and docs print, as a shell would hand them to `pageferry`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"^\s*[\w@]*\$ +")
_END = ("|", "||", "&&", ";", ">", "<", ">>", "&")


@dataclass(frozen=True)
class Printed:
    """One command. file: where it is printed; words: behind `pageferry`; root: with sudo."""

    file: str
    words: tuple[str, ...]
    root: bool
    prompted: bool

    def __str__(self) -> str:
        return f"{self.file}: {'sudo ' * self.root}pageferry {shlex.join(self.words)}"


def printed() -> list[Printed]:
    """Each once, in the order in which they stand."""
    found = [each for file in FILES for each in _of(file)]
    once: dict[tuple[tuple[str, ...], bool], Printed] = {}
    for each in found:
        once.setdefault((each.words, each.root), each)
    return list(once.values())


def _of(file: Path) -> Iterator[Printed]:
    for block in _BLOCK.findall(file.read_text()):
        for line in _logical(block):
            bare = _PROMPT.sub("", line)
            for words in _commands(bare):
                if "pageferry" not in words[:2]:
                    continue
                at = words.index("pageferry")
                if words[:at] in ([], ["sudo"]):
                    yield Printed(
                        file.name,
                        tuple(words[at + 1 :]),
                        root="sudo" in words[:at],
                        prompted=bare != line,
                    )


def _logical(block: str) -> Iterator[str]:
    """Lines, with those that a backslash or an open quote goes on with."""
    waiting = ""
    for line in block.splitlines():
        waiting += line
        if waiting.endswith("\\"):
            waiting = waiting[:-1] + " "
        elif waiting.count('"') % 2:
            waiting += "\n"
        else:
            yield waiting
            waiting = ""


def _commands(line: str) -> Iterator[list[str]]:
    """Between the operators of a shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        tokens = list(lexer)
    except ValueError:  # output that is printed beside commands
        return
    for word in [*tokens, ";"]:
        if word in _END:
            if word == ">" and words[-1:] == ["2"]:  # a descriptor, not an argument
                words.pop()
            if words:
                yield words
            words = []
        elif word == "--" and words[:3] == ["pageferry", "net", "exec"]:
            yield [*words, "--", "true"]  # what follows is a command of its own
            words = []
        else:
            words.append(word)
