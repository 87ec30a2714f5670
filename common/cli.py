"""What the three entry points share: output options, and errors as one line and an exit code."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from cyclopts import App, CycloptsError, Parameter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.config import explain
from common.errors import EXIT_CANCELLED, EXIT_OK, EXIT_USAGE, PageferryError, UsageError

if TYPE_CHECKING:
    from common.wire.tls import ClientTls

# What a report may take: reserved before a migration starts, so that a full disk is known then.
REPORT_RESERVE = 1 << 22


class OutputOptions(BaseModel):
    """Where results and progress go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    json_file: Annotated[
        str | None,
        Parameter(name="--json", allow_leading_hyphen=True),
        Field(description="write the report as JSON to this FILE; -: only JSON on standard output"),
    ] = None
    html_file: Annotated[
        str | None,
        Parameter(name="--html"),
        Field(description="write the report as one HTML page, with pictures, to this FILE"),
    ] = None
    log_dir: Annotated[
        Path | None, Field(description="keep a log of every event in this folder")
    ] = None
    quiet: Annotated[
        bool, Parameter(negative=""), Field(description="no progress on standard error")
    ] = False


class TlsOptions(BaseModel):
    """How a source's connections are made; a part of the run, not of what is moved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tls: Annotated[
        Path | None,
        Field(description="TLS 1.3 with the keys of this folder (pageferry certs makes it)"),
    ] = None
    tls_hostname: Annotated[
        str | None,
        Field(description="NAME that the destination's certificate must have, if not HOST"),
    ] = None

    def load(self) -> ClientTls | None:
        """What a source needs. Raises `UsageError`."""
        from common.wire.tls import client_tls

        if self.tls is not None:
            return client_tls(self.tls, self.tls_hostname)
        if self.tls_hostname is not None:
            raise UsageError("--tls-hostname says whose certificate is meant: it needs --tls DIR")
        return None


class ReportFile:
    """A report that appears whole or not at all: temporary name, then rename.

    Opened before the work starts, so that a folder that can't be written to or a full disk is known
    at once. `-` is standard output. What is no regular file (a pipe, a device) is written as it is.
    option: what asked for it, subject: what it is, both for messages. Raises `UsageError`.
    """

    def __init__(
        self,
        name: str,
        option: str = "--json",
        subject: str = "the migration is over, but its report",
    ) -> None:
        if not name:
            raise UsageError(f"{option} needs the name of a file, or - for standard output")
        self._subject = subject
        self._name = "standard output" if name == "-" else name
        self._path = Path(os.path.realpath(name))  # a symbolic link stays one
        self._temporary: Path | None = None
        try:
            if name == "-":
                self._fd = os.dup(sys.stdout.fileno())
            elif self._path.exists() and not stat.S_ISREG(self._path.stat().st_mode):
                self._fd = os.open(self._path, os.O_WRONLY)
            else:
                folder = self._path.parent
                self._fd, temporary = tempfile.mkstemp(
                    dir=folder, prefix=f".{self._path.name[:32]}."
                )
                self._temporary = Path(temporary)
                os.posix_fallocate(self._fd, 0, REPORT_RESERVE)
                os.ftruncate(self._fd, 0)
        except OSError as error:
            self.discard()
            raise UsageError(f"{option}: can't write {name}: {_why(error)}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, text: str) -> None:
        """All of it, then the final name."""
        try:
            view = memoryview(text.encode())
            while view:
                view = view[os.write(self._fd, view) :]
            if self._temporary is not None:
                umask = os.umask(0)
                os.umask(umask)
                os.fchmod(self._fd, 0o666 & ~umask)
                os.rename(self._temporary, self._path)
                self._temporary = None
        except BrokenPipeError:
            self.discard()
        except OSError as error:
            self.discard()
            raise UsageError(
                f"{self._subject} could not be written to {self._name}: {_why(error)}"
            ) from None

    def discard(self) -> None:
        """Leave nothing behind; idempotent."""
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None


class ReportFiles:
    """The files of `--json` and `--html`, opened before a command's work starts.

    Raises `UsageError`, also where a page is asked for and could not be made.
    """

    def __init__(self, output: OutputOptions) -> None:
        self._json: ReportFile | None = None
        self._html: ReportFile | None = None
        if output.html_file is not None:
            refuse_stdout(output.html_file)
            _refuse_same(output.json_file, output.html_file)
        if output.json_file is not None:
            self._json = ReportFile(output.json_file)
        try:
            if output.html_file is not None:
                self._html = _page_file(output.html_file)
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, json: Callable[[], str], html: Callable[[], str]) -> None:
        """Make and write what was asked for: the JSON first, which the page can be made from."""
        if self._json is not None:
            self._json.write(json())
        if self._html is not None:
            self._html.write(html())

    def discard(self) -> None:
        """Leave nothing behind; idempotent."""
        for file in (self._json, self._html):
            if file is not None:
                file.discard()


def _page_file(name: str) -> ReportFile:
    from common.html import check

    check()
    return ReportFile(name, "--html")


def refuse_stdout(html_file: str) -> None:
    """A page is for a browser. Raises `UsageError`."""
    if html_file in ("", "-"):
        raise UsageError("--html needs the name of a file")


def _refuse_same(json_file: str | None, html_file: str) -> None:
    """Two reports in one file would be neither."""
    if json_file is not None and os.path.realpath(json_file) == os.path.realpath(html_file):
        raise UsageError(f"--json and --html both name {html_file}: expected two files")


def _why(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)


def complain(message: str) -> None:
    """The one line that says what went wrong."""
    print(f"pageferry: {' '.join(message.split())}", file=sys.stderr, flush=True)


def run_app(app: App, arguments: Sequence[str]) -> int:
    """Run a command; every expected failure is one line and its exit code, never a traceback."""
    if not _open_standard_streams():
        complain("standard output is closed: give it a file, or /dev/null")
        return EXIT_USAGE
    code = _run(app, arguments)
    sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    if error is None:
        return code
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())  # what is still in its buffer goes nowhere
    os.close(null)
    if isinstance(error, BrokenPipeError):  # whoever read it has had enough
        return code
    complain(f"can't write to standard output: {_why(error)}")
    return code or EXIT_USAGE


class _Output(io.TextIOWrapper):
    """Standard output whose failure is kept for the end: a report has still to be written."""

    error: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self.error = error
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self.error = error


def _open_standard_streams() -> bool:
    """Make 0 to 2 descriptors that no file of ours is given; whether there is a standard output."""
    found = sys.stdout is not None
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if type(sys.stdout) is io.TextIOWrapper:
        encoding, lines = sys.stdout.encoding, sys.stdout.line_buffering
        # An ASCII terminal is no reason to fail: what it can't show is a question mark.
        sys.stdout = _Output(sys.stdout.detach(), encoding, "replace", line_buffering=lines)
    return found


def _run(app: App, arguments: Sequence[str]) -> int:
    try:
        result: Any = app(
            list(arguments), exit_on_error=False, print_error=False, result_action="return_value"
        )
    except ValidationError as error:
        complain(explain(error))
        return EXIT_USAGE
    except CycloptsError as error:
        complain(_usage(error))
        return EXIT_USAGE
    except PageferryError as error:
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        complain("cancelled before anything was started")
        return EXIT_CANCELLED
    return result if isinstance(result, int) else EXIT_OK


def _usage(error: CycloptsError) -> str:
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        return explain(cause)
    return f"{error} (--help lists what there is)"
