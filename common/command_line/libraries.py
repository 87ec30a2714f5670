"""Libraries that not every command needs: checked before the work starts.

What to install is named by the libraries' own names, with the versions that this package asks for,
and for this interpreter. That works from a checkout and from a wheel alike: `pageferry` itself
can't be installed by its name, and neither can an extra of it.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pageferry.common.errors import UsageError
from pageferry.common.process.python_command import ROOT

_DISTRIBUTIONS: Final = {"distributed": "dask"}  # of modules that have another name


def require_library(what: str, *modules: str) -> None:
    """Refuse to go on where a library is missing.

    Args:
        what: What needs the libraries, as the beginning of the message.
        *modules: Names that are imported; nothing is imported here.

    Raises:
        UsageError: One is missing; the message says how to install it.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UsageError(f"{what} needs {' and '.join(missing)}: {how_to_install(*missing)}")


def how_to_install(*modules: str) -> str:
    """Write the command that installs libraries for this interpreter, wherever its environment is.

    Args:
        *modules: Names that are imported; their distributions are looked up.

    Returns:
        A line for a shell.
    """
    wanted = dict(_wanted())
    names = [_DISTRIBUTIONS.get(module, module) for module in modules]
    words = [shlex.quote(wanted.get(name.lower(), name)) for name in names]
    return " ".join([*_pip(), "install", *words])


def _pip() -> list[str]:
    """Return a pip that installs for this interpreter; the plain word where that does."""
    python = Path(sys.executable)
    found = shutil.which("pip")
    if found is not None and Path(found).parent == python.parent:
        return ["pip"]
    if find_spec("pip") is not None:
        return [shlex.quote(str(python)), "-m", "pip"]
    return ["pip", "--python", shlex.quote(str(python))]  # an environment without its own pip


def _wanted() -> Iterator[tuple[str, str]]:
    """Yield each library that this package names, and the requirement: `cryptography>=42`."""
    for text in _requirements():
        requirement = text.partition(";")[0].strip()
        name = re.match(r"[\w.-]+", requirement)
        if name is not None:
            yield name[0].lower().replace("_", "-"), requirement


def _requirements() -> list[str]:
    """Read the requirements of the installed package, or of the checkout that is run."""
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.requires("pageferry") or []
    with contextlib.suppress(OSError):
        import tomllib

        project: dict[str, Any] = tomllib.loads(Path(ROOT, "pyproject.toml").read_text())["project"]
        extras = project.get("optional-dependencies", {}).values()
        return [*project["dependencies"], *(each for extra in extras for each in extra)]
    return []
