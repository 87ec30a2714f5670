"""Files that appear whole or not at all: meanwhile without a name, or hidden where need be."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pageferry.common.files.atomic_file import NewFile


@pytest.fixture(params=["unnamed", "hidden"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Where files are made, on a file system that knows unnamed files and on one that does not."""
    opens = os.open

    def knows_none(path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        return opens(path, flags, *rest)

    if request.param == "hidden":
        monkeypatch.setattr(os, "open", knows_none)
    yield tmp_path
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def written(path: Path, text: str, *, force: bool = False) -> NewFile:
    new = NewFile(str(path), force=force)
    os.write(new.fd, text.encode())
    return new


def test_a_file_appears_whole_at_its_commit(folder: Path) -> None:
    path = folder / "a"
    new = written(path, "whole")
    assert not path.exists()
    new.commit()
    new.discard()
    assert path.read_text() == "whole"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_file_that_is_given_up_leaves_nothing(folder: Path) -> None:
    new = written(folder / "a", "half")
    new.discard()
    new.discard()
    assert list(folder.iterdir()) == []


def test_one_that_is_there_is_kept(folder: Path) -> None:
    (folder / "a").write_text("old")
    with pytest.raises(FileExistsError):
        NewFile(str(folder / "a"), force=False)
    new = written(folder / "a", "new", force=True)
    assert (folder / "a").read_text() == "old"
    new.commit()
    new.discard()
    assert (folder / "a").read_text() == "new"


def test_one_that_came_meanwhile_is_kept_and_so_is_ours(folder: Path) -> None:
    new = written(folder / "a", "ours")
    (folder / "a").write_text("theirs")
    with pytest.raises(FileExistsError):
        new.commit()
    beside = new.beside()
    new.discard()
    assert ((folder / "a").read_text(), beside.read_text()) == ("theirs", "ours")


def test_a_link_stays_one(folder: Path) -> None:
    (folder / "target").write_text("old")
    (folder / "link").symlink_to("target")
    new = written(folder / "link", "new", force=True)
    new.commit()
    new.discard()
    assert (folder / "link").is_symlink()
    assert (folder / "target").read_text() == "new"


def test_a_folder_that_is_not_there(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        NewFile(str(folder / "none" / "a"), force=False)
