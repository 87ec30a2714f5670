"""Software that a cell runs with besides this package: figures may differ where it differs."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

LIBRARIES: Final = ("numba", "numpy")
_OF_THE_CLUSTER: Final = ("distributed",)
_MOST_NAMED: Final = 3  # workers with the same version


@cache
def environment() -> Mapping[str, str]:
    """Return the versions of Python and of the libraries that compile and run a guest.

    Returns:
        Versions by name. They are cached, and must not be changed.
    """
    return {"python": platform.python_version()} | {name: _of(name) for name in LIBRARIES}


@cache
def cluster_environment() -> Mapping[str, str]:
    """Return the same, and the version of what carries cells to workers.

    Returns:
        Versions by name. They are cached, and must not be changed.
    """
    return {**environment(), **{name: _of(name) for name in _OF_THE_CLUSTER}}


def _of(library: str) -> str:
    """Read the version of a library without importing it, which takes seconds."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def version_differences(found: Mapping[str, Mapping[str, str]]) -> str | None:
    """Describe how versions differ.

    Args:
        found: Versions by name, for each that has them (a worker's address, or `here`).

    Returns:
        One line; None where they do not differ.
    """
    differences = []
    for name in dict.fromkeys(name for each in found.values() for name in each):
        having: dict[str, list[str]] = {}
        for who, versions in found.items():
            having.setdefault(versions.get(name, "not known"), []).append(who)
        if len(having) > 1:
            said = ", ".join(f"{value} on {_names(who)}" for value, who in having.items())
            differences.append(f"{name} is {said}")
    return "; ".join(differences) or None


def _names(who: list[str]) -> str:
    named = who[:_MOST_NAMED]
    more = len(who) - len(named)
    return " and ".join([*named, f"{more} more"] if more else named)
