"""Colours by what they mean, for light and for dark: one place, as CSS variables.

Blue and orange tell the two hosts apart, magenta is time without a guest; they stay apart for the
common kinds of colour blindness (deutan, protan, tritan) and have a contrast of at least 3:1 with
the page. A figure names a colour as `var(--NAME)`; the page's script looks it up when it draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

LIGHT: Final = {
    "page": "#ffffff",
    "panel": "#f6f7f9",
    "line": "#dde1e7",
    "ink": "#1b2430",
    "soft": "#586374",
    "source": "#0b64ad",
    "dest": "#b65400",
    "stop": "#a8155f",
    "full": "#0b64ad",
    "dirty": "#4a8fc7",
    "drain": "#0a7d6c",
    "final": "#a8155f",
    "heat-low": "#eef1f5",
    "heat-mid": "#6ba3d0",
    "heat-high": "#0a2f5c",
    "way-a": "#0b64ad",
    "way-b": "#a04a00",
    "way-c": "#0a7565",
    "way-d": "#a8155f",
    "way-e": "#6446b8",
    "way-f": "#6f5c00",
    "way-g": "#b02a1c",
}
DARK: Final = {
    "page": "#12161c",
    "panel": "#1a2029",
    "line": "#323b48",
    "ink": "#e7ebf1",
    "soft": "#a3afbf",
    "source": "#5aa9ef",
    "dest": "#f0a04b",
    "stop": "#ff79b4",
    "full": "#5aa9ef",
    "dirty": "#a5d0f5",
    "drain": "#3fc7ad",
    "final": "#ff79b4",
    "heat-low": "#1f2732",
    "heat-mid": "#3d86c6",
    "heat-high": "#e9f4ff",
    "way-a": "#5aa9ef",
    "way-b": "#f0a04b",
    "way-c": "#3fc7ad",
    "way-d": "#ff79b4",
    "way-e": "#b9a0f7",
    "way-f": "#d6c44f",
    "way-g": "#ff8f80",
}
# Strategies beside one another. Each is named where it is coloured: hue alone is never enough.
WAYS: Final = tuple(name for name in LIGHT if name.startswith("way-"))
_STRATEGIES: Final = dict(
    zip(
        (
            *("three-path", "pre-copy", "post-copy", "hybrid", "stop-and-copy", "lazy-copy"),
            "cache-aware",
        ),
        WAYS,
        strict=True,
    )
)


def colour(name: str) -> str:
    """Write a colour as a figure names it.

    Args:
        name: One of the keys of `LIGHT`.

    Returns:
        `var(--NAME)`.

    Raises:
        KeyError: There is no such colour.
    """
    if name not in LIGHT:
        raise KeyError(name)
    return f"var(--{name})"


def painted(value: Any, colours: Mapping[str, str]) -> Any:
    """Replace the names of colours by colours, as the page's script does when it draws.

    Args:
        value: A figure, or any part of one; is not changed.
        colours: `LIGHT` or `DARK`.

    Returns:
        A copy; lists and mappings are searched for names to any depth.
    """
    if isinstance(value, str) and value.startswith("var(--") and value.endswith(")"):
        return colours[value[6:-1]]
    if isinstance(value, Mapping):
        return {key: painted(each, colours) for key, each in value.items()}
    return [painted(each, colours) for each in value] if isinstance(value, list) else value


def strategy_colours(names: Iterable[str]) -> dict[str, str]:
    """Give each strategy its colour: ours have the same one in every picture.

    Others take the colours that no strategy of `names` has, in the order of their names, over and
    over.

    Args:
        names: All strategies of a picture, in any order; duplicates count once.

    Returns:
        By strategy, colours as a figure names them.
    """
    wanted = sorted(set(names))
    free = [way for way in WAYS if way not in {_STRATEGIES.get(name) for name in wanted}] or WAYS
    others = [name for name in wanted if name not in _STRATEGIES]
    return {
        name: colour(_STRATEGIES.get(name) or free[others.index(name) % len(free)])
        for name in wanted
    }


def css() -> str:
    """Write the CSS variables: light, dark where the reader's system is dark, and either on demand.

    Returns:
        Rules for `:root`.
    """

    def block(selector: str, scheme: str, colours: dict[str, str]) -> str:
        lines = "".join(f"--{name}:{value};" for name, value in colours.items())
        return f"{selector}{{color-scheme:{scheme};{lines}}}"

    light, dark = block(":root", "light", LIGHT), block(':root[data-theme="dark"]', "dark", DARK)
    by_system = block(':root:not([data-theme="light"])', "dark", DARK)
    return f"{light}@media (prefers-color-scheme:dark){{{by_system}}}{dark}"
