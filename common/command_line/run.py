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
from pageferry.common.process.notices import print_error
from pageferry.common.terminal.progress import ProgressOptions
from pageferry.common.terminal.width import settle_terminal

if TYPE_CHECKING:
    from pageferry.common.wire.tls_credentials import ClientTls


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
        """Open the file before the work, and close it afterwards.

        Args:
            subject: What is written, for messages.

        Yields:
            The file; None where none is asked for.

        Raises:
            UsageError: It can't be written, or is there already.
        """
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
    """What happens where a limit was missed."""

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
        """Read the keys that a source needs.

        Returns:
            None without `--tls`.

        Raises:
            UsageError: The keys can't be used, or `--tls-hostname` is given without `--tls`.
        """
        from pageferry.common.wire.tls_credentials import client_tls

        if self.tls is not None:
            return client_tls(self.tls, self.tls_hostname)
        if self.tls_hostname is not None:
            raise UsageError("--tls-hostname says whose certificate is meant: it needs --tls DIR")
        return None


def tell(configs: Iterable[GuestConfig], *, quiet: bool = False) -> None:
    """Tell a person what to know of these guests before anything is done with them.

    Args:
        configs: The guests; a note that several of them have is printed once.
        quiet: Whether nothing is printed.
    """
    if not quiet:
        for note in dict.fromkeys(each.cache_note for each in configs):
            if note is not None:
                print_error(note)


def run_app(app: App, arguments: Sequence[str]) -> int:
    """Run a command; every expected failure is one line and its exit code, never a traceback.

    Standard streams that are closed are opened, and failures to write to standard output are kept
    until the end: see `_Output`.

    Args:
        app: The command-line application, `pageferry` or an agent.
        arguments: The command line without the program.

    Returns:
        The process's exit code.
    """
    program = app.name[0]
    note([*((program,) if program == "pageferry" else ("python", "-m", program)), *arguments])
    if not _open_standard_streams():
        print_error("standard output is closed: give it a file, or /dev/null")
        return EXIT_USAGE
    settle_terminal()
    try:
        code = _run(app, arguments)
    finally:
        note(())  # what this process makes from now on is not that command's
    out = sys.stdout
    out.flush()
    if not isinstance(out, _Output) or out.error is None or out.unread:
        return code
    print_error(f"can't write to standard output: {os.strerror(out.error.errno or errno.EIO)}")
    return code or EXIT_USAGE


class _Output(io.TextIOWrapper):
    """A standard stream whose failure is kept for the end.

    A report still has to be written, and a migration to be attended to, though its terminal is
    gone.
    """

    error: OSError | None = None
    was_terminal = False

    def write(self, text: str, /) -> int:
        """Write the text; a failure is kept, and all of the text counts as written."""
        try:
            return super().write(text)
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        """Flush the stream; a failure is kept."""
        try:
            super().flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        """Keep the first failure, and send everything that follows to /dev/null."""
        if isinstance(error, BlockingIOError):  # the reader is slow, and not gone
            return
        self.error = self.error or error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())  # what is still in its buffer, and all that follows
        os.close(null)

    @property
    def unread(self) -> bool:
        """Whether it failed because nobody reads it any more.

        A reader has had enough, or a terminal was hung up: that is no failure of the command's.
        """
        gone = isinstance(self.error, BrokenPipeError)
        return gone or (self.was_terminal and self.error is not None)


def _open_standard_streams() -> bool:
    """Make sure that descriptors 0 to 2 are open, so that no file of ours gets one of them.

    Returns whether there is a standard output.
    """
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
    """Wrap a standard stream so that its failure is kept for the end.

    errors: how to show what the terminal can't; an ASCII terminal is no reason to fail.
    """
    encoding, lines, terminal = stream.encoding, stream.line_buffering, stream.isatty()
    kept = _Output(stream.detach(), encoding, errors, line_buffering=lines)
    kept.was_terminal = terminal
    return kept


def _run(app: App, arguments: Sequence[str]) -> int:
    """Run the command; print what it fails with, and return the exit code."""
    try:
        result: Any = app(
            list(arguments), exit_on_error=False, print_error=False, result_action="return_value"
        )
    except (ValidationError, CycloptsError) as error:
        print_error(worded(error))
        return EXIT_USAGE
    except PageferryError as error:
        print_error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        print_error("cancelled before anything was started")
        return EXIT_CANCELLED
    return result if isinstance(result, int) else EXIT_OK


def worded(error: ValidationError | CycloptsError) -> str:
    """Say what is wrong with the options of a command, in our words.

    Args:
        error: As pydantic or cyclopts raised it.

    Returns:
        One line.
    """
    cause = error if isinstance(error, ValidationError) else error.__cause__
    if isinstance(cause, ValidationError) and cause.errors(include_url=False)[0]["loc"]:
        return explain(cause)
    return explain(error) if isinstance(error, ValidationError) else usage(error)
