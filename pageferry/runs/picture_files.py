"""Pictures of reports as files, SVG and PNG, for a paper or a talk: `report --pictures DIR`.

They are those of the page. kaleido draws them in a headless Chrome or Chromium, which must be
installed, with plotly's own script: nothing is asked of a network.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pageferry.common.command_line.libraries import require_library
from pageferry.common.errors import PageferryError, UsageError
from pageferry.common.files.atomic_file import NewFile
from pageferry.common.html.palette import LIGHT, painted
from pageferry.common.html.picture import Figure, Picture, text

FORMATS: Final = ("svg", "png")
_WIDE: Final = 1100  # pixels
_NARROW: Final = 700
_TITLE: Final = 32  # pixels above the picture
_PNG_SCALE: Final = 2  # for print and for dense screens
_DRAW_S: Final = 90.0  # for one picture, on a busy machine
_LONGEST_NAME: Final = 80


def check_picture_libraries() -> None:
    """Refuse before any work where pictures could not be made.

    Raises:
        UsageError: kaleido is missing.
    """
    require_library("--pictures", "kaleido")


def file_names(named: Sequence[tuple[str, Picture]]) -> list[str]:
    """Name each picture's files after what it is of and its key.

    Args:
        named: What each is of, such as a run's label (it may be empty), and the picture.

    Returns:
        A unique name for each, without its ending.
    """
    names: list[str] = []
    for of, picture in named:
        base = "-".join(part for part in (_plain(of), picture.key) if part)
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def _plain(words: str) -> str:
    """Keep letters, digits, dots and dashes only: fit for any file system, and for TeX."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", words)[:_LONGEST_NAME].strip("-.")


def write_pictures(
    folder: Path, named: Sequence[tuple[str, Picture]], *, force: bool = False
) -> list[Path]:
    """Write each picture that has a figure, as SVG and as PNG.

    A file appears whole or not at all.

    Args:
        folder: Is made where it is missing.
        named: What each is of, such as a run's label, and the picture.
        force: Overwrite files that are there.

    Returns:
        The files, an SVG and a PNG for each picture that has a figure.

    Raises:
        UsageError: A file is there already or can't be written, or there is no browser.
        PageferryError: The browser could not draw.
    """
    drawn = [(of, picture) for of, picture in named if picture.figure is not None]
    names = file_names(drawn)
    targets = [folder / f"{name}.{ending}" for name in names for ending in FORMATS]
    there = next((target for target in targets if target.exists()), None)
    if there is not None and not force:
        raise UsageError(f"--pictures: {there} is there already: --force overwrites it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="pageferry-pictures-") as aside:
            made = [Path(aside) / target.name for target in targets]
            orders = [_order(*each, ending) for each in drawn for ending in FORMATS]
            _draw([order | {"path": path} for order, path in zip(orders, made, strict=True)])
            for source, target in zip(made, targets, strict=True):
                _place(source.read_bytes(), target, force=force)
    except OSError as error:
        raise UsageError(f"--pictures: can't write to {folder}: {error.strerror}") from None
    return targets


def _order(of: str, picture: Picture, ending: str) -> dict[str, Any]:
    """Ask kaleido for the figure in the colours of paper, with its title and its size."""
    assert picture.figure is not None  # noqa: S101
    figure: Figure = painted(picture.figure, LIGHT)
    title = " · ".join(part for part in (picture.title, of) if part)
    margin = figure["layout"]["margin"]
    layout = figure["layout"] | {
        "title": {"text": text(title), "x": 0.01, "xanchor": "left", "font": {"size": 15}},
        "margin": margin | {"t": margin["t"] + _TITLE},
        "paper_bgcolor": LIGHT["page"],
    }
    scale = _PNG_SCALE if ending == "png" else 1
    size = {"width": _WIDE if picture.wide else _NARROW, "height": picture.height + _TITLE}
    return {
        "fig": {"data": figure["data"], "layout": layout},
        "opts": {"format": ending, "scale": scale, **size},
    }


def _place(content: bytes, target: Path, *, force: bool) -> None:
    new = NewFile(str(target), force=force)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(new.fd, view) :]
        new.commit()
    finally:
        new.discard()


def _draw(orders: list[dict[str, Any]]) -> None:
    import kaleido
    from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError

    # By default it would load MathJax from a network for every page; ours have no formulas.
    options = {"n": 1, "timeout": _DRAW_S, "mathjax": False}
    try:
        failures = kaleido.write_fig_from_object_sync(orders, kopts=options)
    except ChromeNotFoundError:
        raise UsageError(
            "--pictures needs a Chrome or Chromium, and none was found: install one (Debian:"
            " apt-get install chromium), or name it in BROWSER_PATH"
        ) from None
    except (BrowserFailedError, BrowserClosedError, TimeoutError) as error:
        raise PageferryError(f"--pictures: the browser could not draw: {error}") from None
    if failures:
        raise PageferryError(f"--pictures: a picture could not be drawn: {failures[0]}")
