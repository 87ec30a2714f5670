"""`pageferry trace`: memory traces of real programs, as workloads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import App, Parameter
from pydantic import BaseModel, Field

from pageferry.common.command_line.run import JsonOptions
from pageferry.common.errors import EXIT_OK, CancelledByUser, UsageError
from pageferry.common.files.memory_trace import TraceMeta, open_trace
from pageferry.common.process import signals
from pageferry.common.terminal.progress import ProgressOptions
from pageferry.common.units import PAGE_SIZE

if TYPE_CHECKING:
    from pageferry.trace.importer import Imported
    from pageferry.trace.lackey import LackeyParser

_HELP = """Memory traces of real programs: record one, import it, replay it in a guest.

    valgrind --tool=lackey --trace-mem=yes --log-file=ls.txt ls
    pageferry trace import ls.txt ls.npz
    pageferry trace info ls.npz
    pageferry migrate --workload trace:ls.npz
"""


class ImportOptions(ProgressOptions, JsonOptions):
    """What is taken from a text."""

    instructions: Annotated[
        bool, Parameter(negative=""), Field(description="instruction fetches, too, as reads")
    ] = False
    limit: Annotated[int | None, Field(ge=1, le=2**60, description="the first N accesses only")] = (
        None
    )
    skip_unknown: Annotated[
        bool,
        Parameter(negative=""),
        Field(
            description="pass over lines that are neither accesses nor valgrind's own, such as"
            " the program's output, and count them"
        ),
    ] = False
    mixed: Annotated[
        bool,
        Parameter(negative=""),
        Field(description="take several processes that wrote into one text for one memory"),
    ] = False


class InfoOptions(JsonOptions):
    """How a trace is looked at."""

    verify: Annotated[
        bool, Field(description="check the digest: whether its content is what was imported")
    ] = True


class TextCounts(BaseModel):
    """What was in an imported text.

    Attributes:
        lines: Lines of the text.
        instruction_fetches: Of these, instruction fetches, whether kept or not.
        unknown_lines: Of these, lines that are neither accesses nor valgrind's own.
        trailing_lines: Of these, accesses with something behind them.
        processes: Processes whose accesses they are; 0 where valgrind does not say.
    """

    lines: int
    instruction_fetches: int
    unknown_lines: int
    trailing_lines: int
    processes: int


class ImportDocument(BaseModel):
    """What `trace import --json` writes."""

    schema_version: Literal[1] = 1
    file: str
    trace: TraceMeta
    footprint_bytes: int
    text: TextCounts


class InfoDocument(BaseModel):
    """What `trace info --json` writes.

    Attributes:
        file: The trace, as it was given.
        trace: What its file says of it.
        footprint_bytes: Size of all pages that it touches.
        verified: True where the digest was checked; null where that was not asked for.
        lines: 64-byte lines that the trace touches.
        pages_written: Pages that it writes to.
        parts: Tenths of the trace, in order.
        hottest: The pages with the most accesses.
    """

    schema_version: Literal[1] = 1
    file: str
    trace: TraceMeta
    footprint_bytes: int
    verified: Literal[True] | None
    lines: int
    pages_written: int
    parts: list[dict[str, Any]]
    hottest: list[dict[str, Any]]


def import_(
    text: Annotated[
        str,
        Parameter(
            allow_leading_hyphen=True,
            help="what valgrind wrote, plain or compressed (gzip, bzip2, xz, lzma, zstd, lz4, zip);"
            " -: standard input",
        ),
    ],
    file: Annotated[str, Parameter(help="the trace to make, by custom NAME.npz")],
    /,
    *,
    options: Annotated[ImportOptions | None, Parameter(name="*")] = None,
) -> int:
    r"""Turn what valgrind's lackey wrote into a trace that a guest can replay.

    TEXT is recorded by, or comes out of a pipe from:

        valgrind --tool=lackey --trace-mem=yes --log-file=TEXT PROGRAM
        valgrind --tool=lackey --trace-mem=yes --log-fd=9 PROGRAM \
            9>&1 >/dev/null | pageferry trace import - FILE

    An access that crosses 64-byte lines or pages touches each of them; a
    modification is a read, then a write. A malformed line is named by its
    number, and nothing is left behind. While it works, 8 bytes of disk are
    taken for each access; 4 of them stay.

    valgrind also traces children that a program forks, into the same log.
    Such a text is refused: record with --log-file=trace.%p, and import one.

    Args:
        text: File that valgrind wrote, plain or compressed; `-` is standard input.
        file: The trace to make; its name may have no comma.
        options: What is taken from the text, and where the result goes; None is all defaults.

    Returns:
        The exit code, 0.
    """
    from pageferry.trace.view import print_import

    options = options or ImportOptions()
    _check_name(file)
    parser = _parser(options)
    with options.opened() as report:
        done = _import(text, file, parser, options)
        if options.json_file != "-":
            print_import(file, done)
        if report is not None:
            report.write(_document(file, done).model_dump_json(indent=2) + "\n")
    return EXIT_OK


def _import(text: str, file: str, parser: LackeyParser, options: ImportOptions) -> Imported:
    """Write the trace, whole or not at all."""
    from pageferry.trace.importer import TraceFile, TraceText, import_text
    from pageferry.trace.view import ImportView

    with (
        _interruptible(f"{file} was not written") as check,
        TraceText(text, check) as source,
        TraceFile(file, force=options.force) as new,
    ):
        if new.replaces(source):
            raise UsageError(f"{file} is the text itself: expected another name for the trace")
        with ImportView(source, options.wish) as view:
            done = import_text(source, new, parser, options.instructions, view.show)
        new.commit()
    return done


def _check_name(file: str) -> None:
    if not file or "," in file:
        raise UsageError(
            f"{file!r} can't be said in --workload trace:FILE: expected a name without a comma"
        )


def _parser(options: ImportOptions) -> LackeyParser:
    from pageferry.trace.lackey import LackeyParser

    return LackeyParser(
        instructions=options.instructions,
        limit=options.limit,
        skip_unknown=options.skip_unknown,
        mixed=options.mixed,
    )


def _document(file: str, done: Imported) -> ImportDocument:
    return ImportDocument(
        file=file,
        trace=done.meta,
        footprint_bytes=done.meta.pages * PAGE_SIZE,
        text=TextCounts(
            lines=done.lines,
            instruction_fetches=done.fetches,
            unknown_lines=done.unknown,
            trailing_lines=done.trailing,
            processes=done.processes,
        ),
    )


def info(
    file: Annotated[str, Parameter(help="a trace that `pageferry trace import` has made")],
    /,
    *,
    options: Annotated[InfoOptions | None, Parameter(name="*")] = None,
) -> int:
    """Show what a trace consists of: accesses, working set over time, hottest pages.

    Pages are numbered from 0 in order of their addresses in the program. With
    --workload trace:FILE,digest=DIGEST a guest takes no other content.

    Args:
        file: The trace.
        options: Whether its digest is checked, and where the result goes; None is all defaults.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: The file is no trace, is damaged, or its digest is wrong.
        CancelledByUser: A signal came.
    """
    from pageferry.trace.stats import count_accesses
    from pageferry.trace.view import print_info

    options = options or InfoOptions()
    with options.opened() as report:
        trace = open_trace(file)
        with _interruptible("nothing was changed"):
            if options.verify:
                trace.verify()
            stats = count_accesses(trace)
        if stats is None:
            raise UsageError(f"trace {file!r} is damaged: it has more pages than it says")
        document = InfoDocument(
            file=file,
            trace=trace.meta,
            footprint_bytes=trace.meta.pages * PAGE_SIZE,
            verified=options.verify or None,
            **stats.model_dump(),
        )
        if options.json_file != "-":
            print_info(file, trace.meta, stats, verified=options.verify)
        if report is not None:
            report.write(document.model_dump_json(indent=2) + "\n")
    return EXIT_OK


trace_app: Final = App(name="trace", help=_HELP, help_format="plaintext")
trace_app.command(import_, name="import")
trace_app.command(info)


@contextlib.contextmanager
def _interruptible(outcome: str) -> Iterator[Callable[[], None]]:
    """Have a signal end the command inside, with one line that tells the outcome.

    Yields what raises again if a signal has come: see `signals.raising`.
    """
    try:
        with signals.raising() as check:
            yield check
    except KeyboardInterrupt:
        raise CancelledByUser(f"cancelled: {outcome}") from None
