"""The files of results that come with this version."""

from __future__ import annotations

from importlib.resources import files


def shipped_text(name: str) -> str:
    """Read a file of results, also from a package that is not unpacked.

    Args:
        name: Of a file in `pageferry/paper/data`.

    Returns:
        Its text.
    """
    return (files("pageferry.paper") / "data" / name).read_text("utf-8")
