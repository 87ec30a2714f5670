"""What the three entry points share: output options, and errors as one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from pydantic import Field, ValidationError

from pageferry.common.command_line.invocation import note
from pageferry.common.command_line.options import Options
from pageferry.common.command_line.usage import usage
from pageferry.common.config.guest import GuestConfig
from pageferry.common.config.model import explain
from pageferry.common.errors import EXIT_CANCELLED, EXIT_OK, EXIT_USAGE, PageferryError, UsageError
from pageferry.common.files.report_files import ReportFile
from pageferry.common.process.notices import complain
from pageferry.common.terminal.progress import ProgressOptions
from pageferry.common.terminal.width import settle_terminal

if TYPE_CHECKING:
    from pageferry.common.wire.tls import ClientTls


Force = Annotated[
    bool,
    Parameter(negative=""),
    Field(description="overwrite a file that is there already"),
]


class JsonOptions(Options):
    """Where a result goes beside the terminal, for commands that run no migration."""

    json_file: Annotated[
        str | None,
        Parameter(name="--json", allow_leading_hyphen=True),
        Field(description="write the result as JSON to this FILE; -: only JSON on standard output"),
    ] = None
    force: Force = False

    @contextlib.contextmanager
    def opened(self, subject: str = "the result") -> Iterator[ReportFile | None]:
        """The file, before the work; None where none is asked for. Raises `UsageError`."""
        if self.json_file is None:
            yield None
            return
        with ReportFile(self.json_file, subject=subject, force=self.force) as file:
            yield file


class OutputOptions(ProgressOptions):
    """Where results and progress go."""

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
    force: Force = False
    log_dir: Annotated[
        Path | None, Field(description="keep a log of every event in this folder")
    ] = None


class LimitOptions(Options):
    """What becomes of a limit that was missed."""

    enforce: Annotated[
        bool,
        Parameter(negative=""),
        Field(description="a limit that was given, or is stopped by, and was missed: exit code 5"),
    ] = False


class TlsOptions(Options):
    """How a source's connections are made; a part of the run, not of what is moved."""

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
        from pageferry.common.wire.tls import client_tls

        if self.tls is not None:
            return client_tls(self.tls, self.tls_hostname)
        if self.tls_hostname is not None:
            raise UsageError("--tls-hostname says whose certificate is meant: it needs --tls DIR")
        return None


def tell(configs: Iterable[GuestConfig], *, quiet: bool = False) -> None:
    """What a person should know of these guests before anything is done with them."""
    if not quiet:
        for note in dict.fromkeys(each.cache_note for each in configs):
            if note is not None:
                complain(note)


def run_app(app: App, arguments: Sequence[str]) -> int:
    """Run a command; every expected failure is one line and its exit code, never a traceback."""
    program = app.name[0]
    note([*((program,) if program == "pageferry" else ("python", "-m", program)), *arguments])
    if not _open_standard_streams():
        complain("standard output is closed: give it a file, or /dev/null")
        return EXIT_USAGE
    settle_terminal()
    code = _run(app, arguments)
    out = sys.stdout
    out.flush()
    if not isinstance(out, _Output) or out.error is None or out.unread:
        return code
    complain(f"can't write to standard output: {os.strerror(out.error.errno or errno.EIO)}")
    return code or EXIT_USAGE


class _Output(io.TextIOWrapper):
    """A standard stream whose failure is kept for the end: a report has still to be written, and a
    migration to be seen to, though its terminal is gone.
    """

    error: OSError | None = None
    was_terminal = False

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        if isinstance(error, BlockingIOError):  # who reads is slow: that is no end
            return
        self.error = self.error or error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())  # what is still in its buffer, and all that follows
        os.close(null)

    @property
    def unread(self) -> bool:
        """Whether it failed because nobody is there any more: a reader has had enough, or a
        terminal was hung up. That is no failure of the command's.
        """
        gone = isinstance(self.error, BrokenPipeError)
        return gone or (self.was_terminal and self.error is not None)


def _open_standard_streams() -> bool:
    """Make 0 to 2 descriptors that no file of ours is given; whether there is a standard output."""
    found = sys.stdout is not None
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if type(sys.stdout) is io.TextIOWrapper:
        sys.stdout = _kept(sys.stdout, "replace")
    if type(sys.stderr) is io.TextIOWrapper:
        sys.stderr = _kept(sys.stderr, sys.stderr.errors or "backslashreplace")
    return found


def _kept(stream: io.TextIOWrapper, errors: str) -> _Output:
    """errors: an ASCII terminal is no reason to fail, what it can't show is shown otherwise."""
    encoding, lines, terminal = stream.encoding, stream.line_buffering, stream.isatty()
    kept = _Output(stream.detach(), encoding, errors, line_buffering=lines)
    kept.was_terminal = terminal
    return kept


def _run(app: App, arguments: Sequence[str]) -> int:
    try:
        result: Any = app(
            list(arguments), exit_on_error=False, print_error=False, result_action="return_value"
        )
    except (ValidationError, CycloptsError) as error:
        complain(worded(error))
        return EXIT_USAGE
    except PageferryError as error:
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        complain("cancelled before anything was started")
        return EXIT_CANCELLED
    return result if isinstance(result, int) else EXIT_OK


def worded(error: ValidationError | CycloptsError) -> str:
    """What is wrong with the options of a command, in our words."""
    cause = error if isinstance(error, ValidationError) else error.__cause__
    if isinstance(cause, ValidationError) and cause.errors(include_url=False)[0]["loc"]:
        return explain(cause)
    return explain(error) if isinstance(error, ValidationError) else usage(error)
