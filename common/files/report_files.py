"""Files for reports: known to be writable before the work, and whole or not there after it."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pageferry.common.errors import UsageError
from pageferry.common.files.atomic_file import NewFile
from pageferry.common.files.output_pipe import open_stream, write_all, write_stream
from pageferry.common.process.notices import print_error

if TYPE_CHECKING:
    from pageferry.common.command_line.run import OutputOptions

# What a report may take. It is reserved before a migration starts, so that a full disk shows then.
REPORT_RESERVE = 1 << 22


class ReportFile:
    """A report that appears whole or not at all, see `common.files.atomic_file`.

    It is opened before the work starts, so that a folder that can't be written to, a full disk or a
    file that is there already is known at once. What is no regular file (a pipe, a device) is
    written as it is, see `common.files.output_pipe`. As a context manager it discards itself at the
    end.

    Args:
        name: Where the report is to appear; `-`: standard output.
        option: The option that asked for it, for messages.
        subject: What is written, as the beginning of a message.
        force: Whether to overwrite a file that is there.

    Raises:
        UsageError: It can't be written, or is there already.
    """

    def __init__(
        self,
        name: str,
        option: str = "--json",
        subject: str = "the migration is over, but its report",
        *,
        force: bool = False,
    ) -> None:
        if not name:
            raise UsageError(f"{option} needs the name of a file, or - for standard output")
        self._subject = subject
        self._is_stdout = name == "-"
        self._name = "standard output" if self._is_stdout else name
        self._fd = -1
        self._aside = False  # whether it has got another name
        self._new: NewFile | None = None
        try:
            if self._is_stdout:
                self._fd = os.dup(sys.stdout.fileno())
            elif os.path.exists(name) and not os.path.isfile(name):
                self._fd = open_stream(name)
            else:
                self._new = NewFile(name, force=force)
                os.posix_fallocate(self._new.fd, 0, REPORT_RESERVE)
                os.ftruncate(self._new.fd, 0)
        except FileExistsError:
            raise UsageError(f"{option}: {name} is there already: --force overwrites it") from None
        except OSError as error:
            self.discard()
            raise UsageError(f"{option}: can't write {name}: {_why(error)}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, text: str) -> None:
        """Write the whole report, give it its name, and close it.

        Args:
            text: All of it.

        Raises:
            UsageError: It can't be written; the message says where it is instead, if anywhere.
        """
        if (lost := self._write(text.encode(errors="replace"))) is not None:
            raise UsageError(lost)

    def keep(self, text: str) -> None:
        """Write a report that can't be made again; where that fails here it is put elsewhere.

        It raises nothing: how the command ended is one thing, how its report did another. What went
        wrong is printed, with the place where the report is instead.

        Args:
            text: All of it.
        """
        data = text.encode(errors="replace")
        if (lost := self._write(data)) is not None:
            print_error(
                lost if self._aside else f"{lost}; {_put_aside(data, Path(self._name).suffix)}"
            )

    def _write(self, data: bytes) -> str | None:
        """Write the report; return what became of it where it could not be written as asked."""
        new = self._new
        try:
            if new is None:
                write_stream(self._fd, data)
            else:
                write_all(new.fd, data)
                new.commit()
        except FileExistsError:
            assert new is not None  # noqa: S101
            with contextlib.suppress(OSError):
                aside = new.beside()
                self._aside = True
                return f"{self._subject} is in {aside}: meanwhile somebody else has made {new.path}"
            return f"{self._subject} can't be {new.path}: meanwhile somebody else has made it"
        except OSError as error:
            had_enough = self._is_stdout and isinstance(error, BrokenPipeError)
            if not had_enough:
                return f"{self._subject} could not be written to {self._name}: {_why(error)}"
        finally:
            self.discard()
        return None

    def discard(self) -> None:
        """Leave nothing behind; idempotent. What has been written stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._new is not None:
            self._new.discard()
            self._new = None


class ReportFiles:
    """The files of `--json` and `--html`, opened before a command's work starts.

    As a context manager it discards them at the end.

    Args:
        output: What was asked for; `log_dir` is checked, too.

    Raises:
        UsageError: A file or folder can't be written to, or a page is asked for and could not be
            made.
    """

    def __init__(self, output: OutputOptions) -> None:
        self._json: ReportFile | None = None
        self._html: ReportFile | None = None
        if output.html_file is not None:
            refuse_stdout(output.html_file)
            _refuse_same(output.json_file, output.html_file)
        if output.log_dir is not None:
            need_folder(output.log_dir, "--log-dir")
        if output.json_file is not None:
            self._json = ReportFile(output.json_file, force=output.force)
        try:
            if output.html_file is not None:
                self._html = _page_file(output.html_file, force=output.force)
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, json: Callable[[], str], html: Callable[[], str]) -> None:
        """Make and write what was asked for: the JSON first, from which the page can be made.

        Args:
            json: Makes the JSON text; called only where it is asked for.
            html: Makes the page; called only where it is asked for.
        """
        if self._json is not None:
            self._json.keep(json())
        if self._html is not None:
            self._html.keep(html())

    def discard(self) -> None:
        """Leave nothing behind; idempotent."""
        for file in (self._json, self._html):
            if file is not None:
                file.discard()


def _page_file(name: str, *, force: bool) -> ReportFile:
    """Open the file of a page, if a page can be made here."""
    from pageferry.common.html import check_libraries

    check_libraries()
    return ReportFile(name, "--html", force=force)


def refuse_stdout(html_file: str) -> None:
    """Refuse to write a page to standard output: it is for a browser.

    Args:
        html_file: The value of `--html`.

    Raises:
        UsageError: It is `-`, or empty.
    """
    if html_file in ("", "-"):
        raise UsageError("--html needs the name of a file")


def _refuse_same(json_file: str | None, html_file: str) -> None:
    """Refuse to write both reports to one file, which would then be neither."""
    if json_file is not None and os.path.realpath(json_file) == os.path.realpath(html_file):
        raise UsageError(f"--json and --html both name {html_file}: expected two files")


def _put_aside(data: bytes, ending: str) -> str:
    """Write into a temporary file that only its owner may read; say where, or why there is none."""
    try:
        fd, name = tempfile.mkstemp(prefix="pageferry-", suffix=ending)
    except OSError as error:
        return f"nor is there room for it elsewhere: {_why(error)}"
    try:
        write_all(fd, data)
    except OSError as error:
        os.unlink(name)
        return f"nor to {name}: {_why(error)}"
    finally:
        os.close(fd)
    return f"it is in {name}"


def need_folder(folder: Path, option: str) -> None:
    """Refuse a folder in which no files could be made, or that could not be made itself.

    Nothing is made: the command may still find other reasons not to begin.

    Args:
        folder: It need not be there, nor its parents.
        option: The option that names it, for the message.

    Raises:
        UsageError: It can't be written to.
    """
    path = Path(os.path.abspath(folder))
    longest = 0
    try:
        while not _is_there(path):
            longest = max(longest, len(os.fsencode(path.name)))
            path = path.parent
        if longest > os.pathconf(path, "PC_NAME_MAX"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UsageError(f"{option}: can't write to {folder}: {_why(error)}") from None


def _is_there(path: Path) -> bool:
    """Tell whether there is something of that name; a broken symbolic link raises."""
    try:
        path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise
        return False
    return True


def _why(error: OSError) -> str:
    """Return the reason of a failure in words."""
    return error.strerror or os.strerror(error.errno or errno.EIO)


def save(path: str | os.PathLike[str], subject: str, text: str) -> None:
    """Write a file that appears whole or not at all; one that is there is replaced.

    Args:
        path: Where it is to appear.
        subject: What it is, for messages.
        text: All of it.

    Raises:
        UsageError: It can't be written.
    """
    with ReportFile(os.path.abspath(path), "save", subject, force=True) as file:
        file.write(text)
