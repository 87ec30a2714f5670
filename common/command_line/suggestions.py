"""What somebody may have meant who wrote a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 64  # characters of a word that are compared: difflib's time grows with the square
_NEAR: Final = (
    0.66  # of difflib's ratio: "precpy" is near "pre-copy", "nonsense" not near "io-intensive"
)
_PREFIX: Final = 3  # letters that suffice where only one name begins with them


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Find the known name that a word comes nearest to.

    Case, hyphens and underscores are ignored: `precopy` and `Pre_Copy` are `pre-copy`.

    Args:
        word: As a person wrote it, of any length.
        known: The names that exist.

    Returns:
        One of `known`; None where none is near.
    """
    plain: dict[str, str] = {}
    for name in known:
        plain.setdefault(_plain(name), name)
    wanted = _plain(word[:_LONGEST])
    if not wanted:
        return None
    if wanted in plain:
        return plain[wanted]
    begun = [name for each, name in plain.items() if each.startswith(wanted)]
    if len(begun) == 1 and len(wanted) >= _PREFIX:
        return begun[0]
    near = difflib.get_close_matches(wanted, plain, n=1, cutoff=_NEAR)
    return plain[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest a name: `"did you mean pre-copy?"` for `"precopy"`.

    Args:
        word: As a person wrote it.
        known: The names that exist.

    Returns:
        Empty text where no name is near.
    """
    near = nearest(word, known)
    return "" if near is None else f"did you mean {near}?"


def _plain(name: str) -> str:
    """Write a name without what is ignored when names are compared."""
    return name.strip().lower().replace("-", "").replace("_", "")
