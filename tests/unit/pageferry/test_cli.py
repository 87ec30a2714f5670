"""The files of --json and --html: opened before the work, written whole, or not there at all."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pageferry.common.command_line.run import OutputOptions
from pageferry.common.errors import UsageError
from pageferry.common.files.report_files import ReportFiles, need_folder


def options(*, force: bool = False, **names: Path | str) -> OutputOptions:
    files = {key: str(name) for key, name in names.items()}
    return OutputOptions.model_validate(files | {"force": force})


def never() -> str:
    raise AssertionError("nobody has asked for this")


def test_json_and_html_are_both_written(tmp_path: Path) -> None:
    json, html = tmp_path / "a.json", tmp_path / "a.html"
    with ReportFiles(options(json_file=json, html_file=html)) as files:
        files.write(lambda: "{}", lambda: "<p>")
    assert (json.read_text(), html.read_text()) == ("{}", "<p>")
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_not_asked_for_is_not_made(tmp_path: Path) -> None:
    with ReportFiles(options(html_file=tmp_path / "a.html")) as files:
        files.write(never, lambda: "<p>")
    with ReportFiles(options()) as files:
        files.write(never, never)


def test_the_json_is_written_where_the_page_fails(tmp_path: Path) -> None:
    json, html = tmp_path / "a.json", tmp_path / "a.html"
    html.write_text("old")
    with (
        pytest.raises(AssertionError),
        ReportFiles(options(json_file=json, html_file=html, force=True)) as files,
    ):
        files.write(lambda: "{}", never)
    assert (json.read_text(), html.read_text()) == ("{}", "old")
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_stays_behind_when_the_second_can_not_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--html: can't write /nonexistent/"):
        ReportFiles(options(json_file=tmp_path / "a.json", html_file="/nonexistent/a.html"))
    assert list(tmp_path.iterdir()) == []


def test_one_file_for_both(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(UsageError, match="--json and --html both name"):
        ReportFiles(options(json_file=tmp_path / "a", html_file=tmp_path / "link"))
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_no_command_waits_for_another_one() -> None:
    code = "import sys; from pageferry.cli import make_app; make_app('migrate');"
    code += "others = ('numba', 'pageferry.commands.compare', 'pageferry.sweeps');"
    code += "print([name for name in sys.modules if name in others])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_command_waits_for_what_a_page_is_made_with() -> None:
    code = (
        "import sys; from pageferry.cli import make_app; make_app(); import pageferry.common.html;"
    )
    code += "print([name for name in ('plotly', 'jinja2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_that_is_there_is_refused_before_any_work(tmp_path: Path) -> None:
    json, html = tmp_path / "a.json", tmp_path / "a.html"
    html.write_text("old")
    with pytest.raises(UsageError, match=r"--html: .*a\.html is there already: --force"):
        ReportFiles(options(json_file=json, html_file=html))
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    with ReportFiles(options(json_file=json, html_file=html, force=True)) as files:
        files.write(lambda: "{}", lambda: "new")
    assert (json.read_text(), html.read_text()) == ("{}", "new")


def test_a_report_is_not_lost_to_a_file_that_somebody_made_meanwhile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a.json"
    with ReportFiles(options(json_file=target)) as files:
        target.write_text("theirs")
        files.write(lambda: "{}", never)
    assert re.search(r"is in .*a\.json\.[0-9a-f]{8}: meanwhile", capsys.readouterr().err)
    (other,) = (path for path in tmp_path.iterdir() if path != target)
    assert (target.read_text(), other.read_text()) == ("theirs", "{}")


def test_a_report_that_can_not_be_written_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target, page, aside = tmp_path / "a.json", tmp_path / "a.html", tmp_path / "aside"
    aside.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(aside))
    with ReportFiles(options(json_file=target, html_file=page)) as files:
        real, refused = os.write, iter([True])

        def full(fd: int, data: bytes) -> int:
            if next(refused, False):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, data)

        monkeypatch.setattr(os, "write", full)
        files.write(lambda: '{"a": "\udc80"}', lambda: "<p>")
        monkeypatch.undo()
    (other,) = aside.iterdir()
    assert other.name.endswith(".json")
    assert other.stat().st_mode & 0o077 == 0
    assert (other.read_text(), page.read_text()) == ('{"a": "?"}', "<p>")
    assert not target.exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the migration is over, but its report could not be written to" in said
    assert said.rstrip().endswith(f"No space left on device; it is in {other}")


@pytest.mark.parametrize("option", ["json_file", "html_file"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("n" * 300, "File name too long"),
        ("\u00e4" * 140, "File name too long"),
        ("none/a", "No such file or directory"),
        ("file/a", "Not a directory"),
        ("new/", "Is a directory"),
        ("file/", "Is a directory"),
        (".", "Is a directory"),
    ],
)
def test_names_that_no_file_can_have(option: str, name: str, why: str, tmp_path: Path) -> None:
    """Known before the work, and nothing is left of the attempt."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=why):
        ReportFiles(options(**{option: f"{tmp_path}/{name}"}, force=True))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("n" * 300, "File name too long"),
        ("new/" + "n" * 300, "File name too long"),
        ("file", "Not a directory"),
        ("file/new", "Not a directory"),
        ("dangling", "No such file or directory"),
    ],
)
def test_folders_that_can_not_be_made(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(UsageError, match=f"--log-dir: can't write to .*: ({why})"):
        ReportFiles(options(log_dir=tmp_path / name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


def test_a_folder_that_can_be_made_is_not_made_yet(tmp_path: Path) -> None:
    need_folder(tmp_path / "a" / "b", "--log-dir")
    need_folder(tmp_path, "--log-dir")
    assert list(tmp_path.iterdir()) == []
