"""`scripts/check_wheels`: can every library be installed without a compiler, where it is promised?

pip is asked what it would install (`--dry-run`, wheels only) for each processor and Python, of all
that pyproject.toml names for users. Where it finds no way, each requirement is asked for alone, so
that the one to blame is named. What is printed is the table of docs/platforms.md.

pip judges markers (`; sys_platform == …`) by the interpreter that runs it, which is Linux here.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

PROJECT: Final = Path(__file__).resolve().parent.parent
MACHINES: Final = ("x86_64", "aarch64")
PYTHONS: Final = ("3.11", "3.12", "3.13")
GLIBC: Final = (5, 12, 17, 24, 26, 27, 28)  # 2.28: Debian 10, RHEL 8, Ubuntu 18.10, and later ones
NOT_FOR_USERS: Final = ("all", "dev", "docs", "fuzz")
PATIENCE_S: Final = 600


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of machine. python: as `3.12`."""

    python: str
    machine: str

    @property
    def options(self) -> list[str]:
        """What pip calls it."""
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in GLIBC]
        tags.append(f"manylinux2014_{self.machine}")
        platforms = [word for tag in tags for word in ("--platform", tag)]
        return [*platforms, "--python-version", self.python, "--implementation", "cp"]


@dataclass(slots=True)
class Answer:
    """What pip would install there. versions: by name. missing: requirements without a wheel."""

    versions: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def requirements() -> list[str]:
    """All that a user may install, extras too."""
    project: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    found = list(project["dependencies"])
    for extra, names in project["optional-dependencies"].items():
        if extra not in NOT_FOR_USERS:
            found += names
    return sorted(dict.fromkeys(found), key=name_of)


def name_of(requirement: str) -> str:
    """`dask` of `dask[distributed]>=2024.8`, as a registry has it."""
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None  # noqa: S101
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def ask(wanted: Sequence[str], target: Target) -> Answer:
    """pip's answer. Raises `RuntimeError` where it could not be asked at all."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-P", "-m", "pip", "install", "--dry-run", "--quiet"]
        command += ["--ignore-installed", "--disable-pip-version-check", "--target", folder]
        command += ["--only-binary=:all:", "--report", str(report), *target.options, *wanted]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        if done.returncode == 0:
            found = [each["metadata"] for each in json.loads(report.read_text())["install"]]
            return Answer({name_of(each["name"]): each["version"] for each in found})
    if "No matching distribution" in done.stderr or "ResolutionImpossible" in done.stderr:
        if len(wanted) == 1:
            return Answer(missing=[wanted[0]])
        answers = [ask([each], target) for each in wanted]
        return Answer(
            {name: text for answer in answers for name, text in answer.versions.items()},
            [each for answer in answers for each in answer.missing],
        )
    raise RuntimeError(f"pip could not be asked: {done.stderr.strip().splitlines()[-1:]}")


def table(wanted: Sequence[str], answers: dict[Target, Answer]) -> Iterator[str]:
    """Markdown: a row a requirement, a column a target."""
    targets = list(answers)
    yield "| | " + " | ".join(f"{each.python} {each.machine}" for each in targets) + " |"
    yield "|---" * (len(targets) + 1) + "|"
    for requirement in wanted:
        cells = [answers[each].versions.get(name_of(requirement), "**none**") for each in targets]
        yield f"| `{requirement.partition(';')[0].strip()}` | " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/check_wheels", description=__doc__)
    parser.add_argument("--python", action="append", help=f"another than {', '.join(PYTHONS)}")
    parser.add_argument("--machine", action="append", help=f"another than {', '.join(MACHINES)}")
    chosen = parser.parse_args()
    wanted = requirements()
    targets = [
        Target(python, machine)
        for machine in chosen.machine or MACHINES
        for python in chosen.python or PYTHONS
    ]
    with ThreadPoolExecutor(2) as pool:
        try:
            found = list(pool.map(lambda target: ask(wanted, target), targets))
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            print(f"check_wheels: {error}", file=sys.stderr)
            return 2
    answers = dict(zip(targets, found, strict=True))
    print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, glibc 2.{max(GLIBC)} or later:\n")
    print("\n".join(table(wanted, answers)))
    missing = [
        f"{target.python} {target.machine}: {each}"
        for target, answer in answers.items()
        for each in answer.missing
    ]
    for each in missing:
        print(f"check_wheels: no wheel for {each}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
