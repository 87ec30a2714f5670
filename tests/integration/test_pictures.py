"""Pictures: of a comparison with several runs, and as files."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import SMALL, pageferry

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two strategies, two runs each, as JSON and as a page."""
    folder = tmp_path_factory.mktemp("compared")
    files = ("--json", str(folder / "runs.json"), "--html", str(folder / "page.html"))
    run = pageferry(
        "compare", "--strategies", "pre-copy,stop-and-copy", "--runs", "2", *SMALL, *files
    )
    assert run.exit_code == 0, run.stderr
    return folder


def figures(page: str) -> dict[str, Any]:
    """The pictures of all runs together, as the page's script reads them."""
    found = re.search(r'id="compared-figures">([A-Za-z0-9+/=]*)<', page)
    assert found is not None
    out: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found[1])))
    return out


def test_several_runs_are_one_bar_from_zero_in_the_colour_of_their_strategy(
    compared: Path,
) -> None:
    page = (compared / "page.html").read_text("utf-8")
    hues = []
    for key in ("downtimes", "totals"):
        bars, layout = figures(page)[key]["data"][0], figures(page)[key]["layout"]
        assert len(bars["x"]) == 2  # and not four
        assert all(more is not None for more in bars["error_x"]["array"])
        assert layout["xaxis"]["range"][0] == 0
        hues.append(bars["marker"]["color"])
    assert hues[0] == hues[1]
    assert len(set(hues[0])) == 2
    assert figures(page)["against"]["layout"]["xaxis"]["rangemode"] == "tozero"


def test_a_page_saves_its_pictures_as_svg(compared: Path) -> None:
    assert "Save as SVG" in (compared / "page.html").read_text("utf-8")


def test_without_a_browser_no_picture_is_written_and_it_says_so(
    compared: Path, tmp_path: Path
) -> None:
    arguments = ("report", str(compared / "runs.json"), "--pictures", str(tmp_path / "out"))
    run = pageferry(*arguments, BROWSER_PATH=str(tmp_path / "none"))
    assert run.exit_code == 2
    assert re.search("needs a Chrome or Chromium", run.complaint), run.complaint
    assert len(run.lines) == 1


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_pictures_become_files(compared: Path, tmp_path: Path) -> None:
    arguments = ("report", str(compared / "runs.json"), "--pictures", str(tmp_path / "out"))
    run = pageferry(*arguments)
    assert run.exit_code == 0, run.stderr
    made = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"downtimes.svg", "downtimes.png", "pre-copy-run-1-rounds.svg"} <= made
    again = pageferry(*arguments)
    assert again.exit_code == 2
    assert "--force" in again.complaint
