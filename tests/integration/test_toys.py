"""CONTRIBUTING.md is enough: a toy strategy, a toy option and a toy type of frame are added by it.

Each is a patch of `tests/data/toys`, applied to a copy of the tree and run there. It touches no
file but those that its section names. A patch that does not apply any more is made anew by
following that section in a checkout, and `git diff`.
"""

from __future__ import annotations

import re
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tests.support.command_line import HERE, SMALL, Run, environment, pageferry, run_words
from tests.support.known_types import copy_known_types

TOYS = HERE / "tests/data/toys"
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "site", "*.egg-info")
SECTIONS = {
    "strategy": "Adding a strategy",
    "option": "Adding an option",
    "frame": "Adding a type of frame",
}


class Copy:
    """A copy of the tree with a toy in it."""

    def __init__(self, folder: Path, toy: str) -> None:
        self.folder, self.patch = folder / "copy", TOYS / f"{toy}.patch"
        shutil.copytree(HERE, self.folder, symlinks=True, ignore=LEFT_OUT)
        self._git("apply", "--whitespace=error")

    def _git(self, *words: str) -> str:
        variables = environment(GIT_CEILING_DIRECTORIES=str(self.folder.parent))
        done = run_words(["git", *words, str(self.patch)], cwd=self.folder, env=variables)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    @property
    def touched(self) -> list[str]:
        """The files that the toy is in."""
        return [line.split("\t")[2] for line in self._git("apply", "--numstat").splitlines()]

    def run(self, *words: str) -> Run:
        """Run a Python of this environment with the copy's code."""
        return run_words(
            [sys.executable, *words],
            cwd=self.folder,
            env=environment(PYTHONPATH=str(self.folder)),
        )

    def test(self, *files: str) -> None:
        """Run tests of the copy."""
        done = self.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *files)
        assert done.exit_code == 0, done.stdout

    def migrate(self, *options: str) -> Any:
        """Make a migration and return its report."""
        words = ("-P", "-m", "pageferry.cli", "migrate", *SMALL, "--json", "-", *options)
        done = self.run(*words)
        assert done.exit_code == 0, done.stderr
        assert done.json["verified"]
        return done.json


def named(section: str) -> list[str]:
    """The files that a section of CONTRIBUTING.md names; NAME stands for any."""
    text = (HERE / "CONTRIBUTING.md").read_text("utf-8")
    body = text[text.index(f"\n## {section}\n") + 4 :].partition("\n## ")[0]
    paths = re.findall(r"`([\w./]+(?:\.py|\.json|\.md|/))`", body)
    assert paths
    return [path.replace("NAME", "*") + ("*" if path.endswith("/") else "") for path in paths]


def added(toy: str, folder: Path) -> Copy:
    """A copy with that toy, which touches nothing but what its section names."""
    copy, files = Copy(folder, toy), named(SECTIONS[toy])
    assert copy.touched
    unnamed = [each for each in copy.touched if not any(fnmatch(each, file) for file in files)]
    assert unnamed == [], files
    return copy


def test_a_strategy(tmp_path: Path) -> None:
    copy = added("strategy", tmp_path)
    copy_known_types(copy.folder)  # what a toy does not change is not checked anew
    copy.test(
        "tests/unit/common/strategy/test_two_rounds.py", "tests/unit/pageferry/test_public.py"
    )
    report = copy.migrate("--strategy", "two-rounds")
    assert [each["kind"] for each in report["rounds"]] == ["full", "dirty", "final"]


def test_an_option(tmp_path: Path) -> None:
    copy = added("option", tmp_path)
    report = copy.migrate("--rest", "300ms")
    assert report["config"]["rest"] == 0.3
    assert report["downtime_ms"] > 300  # the destination has obeyed
    refused = copy.run("-P", "-m", "pageferry.cli", "migrate", "--rest", "2min")
    assert refused.exit_code == 2
    assert "--rest: '2min' is too long: expected a time from 0s to 1min" in refused.complaint


def test_a_type_of_frame(tmp_path: Path) -> None:
    copy = added("frame", tmp_path)
    copy.test("tests/unit/common/wire/test_decoder.py")
    options = ("--strategy", "stop-and-copy", "--channels", "2")
    usual = pageferry("migrate", *SMALL, "--json", "-", *options).json["rounds"][0]["bytes"]
    # One for each channel: header, body and checksum.
    assert copy.migrate(*options)["rounds"][0]["bytes"] == usual + 2 * (16 + 4096 + 8)
