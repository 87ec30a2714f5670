from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pageferry.common.errors import UsageError
from pageferry.common.html import all_pictures
from pageferry.common.html.picture import Picture
from pageferry.runs import picture_files
from pageferry.runs.picture_files import file_names, write_pictures
from tests.support import chromium
from tests.support.every_report import completed, failed

NAMED = all_pictures([completed(), failed()], ["a/b <1>", "c"], ["a/b <1>", "c"])


def test_files_are_called_after_run_and_picture() -> None:
    names = file_names([("", Picture("totals", "t", "l")), ("../x y", Picture("totals", "t", "l"))])
    assert names == ["totals", "x-y-totals"]
    twice = [("a b", Picture("k", "t", "l")), ("a/b", Picture("k", "t", "l"))] * 2
    assert file_names(twice) == ["a-b-k", "a-b-k-2", "a-b-k-3", "a-b-k-4"]
    (long,) = file_names([("n" * 5000, Picture("k", "t", "l"))])
    assert len(long) < 100


def test_no_file_is_overwritten_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_files, "_draw", lambda _orders: pytest.fail("it was drawn"))
    (tmp_path / "downtimes.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"downtimes\.png is there already: --force"):
        write_pictures(tmp_path, NAMED)
    assert os.listdir(tmp_path) == ["downtimes.png"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--pictures: can't write to .*file/folder"):
        write_pictures(tmp_path / "file/folder", NAMED)


def test_without_a_browser_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-browser"))
    with pytest.raises(UsageError, match=r"needs a Chrome or Chromium.*BROWSER_PATH"):
        write_pictures(tmp_path / "out", NAMED)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(chromium.FOUND is None, reason="there is no chromium")
def test_pictures_are_drawn_as_svg_and_png(tmp_path: Path) -> None:
    wanted = [(of, each) for of, each in NAMED if each.key in ("downtimes", "speed")]
    files = write_pictures(tmp_path / "deep/er", wanted)
    assert [file.name for file in files] == [
        f"{name}.{ending}" for name in ("downtimes", "a-b-1-speed") for ending in ("svg", "png")
    ]
    root = ElementTree.fromstring(files[2].read_text("utf-8"))  # noqa: S314 - we have made it
    assert "The guest's speed · a/b <1>" in "".join(root.itertext())
    assert "var(--" not in files[2].read_text("utf-8")
    assert files[3].read_bytes().startswith(b"\x89PNG")
