"""The folder of a sweep: what has finished is kept, whenever the process is killed.

    lock             held (flock) by the one sweep that works here; the kernel frees it at the end
    sweep.json       the cells of the present plan, in order (`Manifest`)
    cells/KEY.json   a finished cell (`Record`): its presence *is* that the cell has finished
    reports/KEY.json its whole report, as `--json` writes it, where there is one
    results.parquet  all of it, one row a cell, made from `cells/`

A file is written without a name, synced, and only then given its name: it is there whole or not at
all. A report is written before its record, so that no record lacks its report. KEY is the identity
of the cell's configuration: no cell can be there twice, and one that is still in an edited plan is
kept.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pageferry.common.config.model import first_fault
from pageferry.common.errors import EXIT_OK, UsageError
from pageferry.common.files.atomic_file import NewFile
from pageferry.common.files.input_files import parse_json, read_file, shorten_text
from pageferry.sweeps.cells import SCHEMA, Cell, check_known
from pageferry.sweeps.columns import option_row, result_columns
from pageferry.sweeps.runners import Runner, runner_named

MANIFEST: Final = "sweep.json"
RESULTS: Final = "results.parquet"
_LOCK: Final = "lock"
_CELLS: Final = "cells"
_REPORTS: Final = "reports"
_MOST_RECORD: Final = 1 << 24  # bytes; a record has about 4 KiB
_MOST_MANIFEST: Final = 1 << 28  # bytes; enough for 100,000 cells
_Document = TypeVar("_Document", bound=BaseModel)


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA


Key = Annotated[str, Field(pattern="^[0-9a-f]{20}$")]  # a part of files' names


class PlannedCell(BaseModel):
    """A cell of the plan, whether it has run or not.

    Attributes:
        key: Its identity.
        label: For people.
        repeat: From 0.
        point: What it has on each axis, as it was written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Key
    label: str
    repeat: int = Field(ge=0, lt=2**31)
    point: dict[str, str]


class Manifest(_Stored):
    """The plan as it was last run.

    Attributes:
        name: Of the plan: its file's name without the ending.
        runner: The runner's name.
        axes: The options that vary; the first changes slowest.
        cells: In the plan's order.
    """

    name: str
    runner: str
    axes: tuple[str, ...]
    cells: tuple[PlannedCell, ...]


class Record(_Stored):
    """A finished cell.

    Attributes:
        key: Its identity.
        label: For people.
        runner: The runner's name.
        options: Texts by option name with dashes, as flags take them.
        outcome: The report's; without a report `failed`, or `lost` with its process.
        exit_code: 0, or how it failed. A limit that was missed does not count.
        error: What went wrong, in one line; None where nothing did.
        started: When it was begun: UTC, ISO 8601.
        seconds: How long the whole cell took, start-up included.
        worker: Where it ran: a host's name, or the address of a cluster's worker.
        attempts: How often it was begun: on a cluster a worker can be lost.
        versions: Of Python and libraries there; empty in records of earlier versions.
        results: The report's columns; empty without a report.
        has_report: Whether its report is in the folder.
    """

    key: Key
    label: str
    runner: str
    options: dict[str, str | list[str]]
    outcome: str
    exit_code: int = Field(ge=-(2**31), lt=2**31)
    error: str | None
    started: str
    seconds: float
    worker: str
    attempts: int = Field(ge=1, lt=2**31)
    versions: dict[str, str] = {}
    results: dict[str, bool | int | float | str | None]
    has_report: bool

    @property
    def settings(self) -> dict[str, str | list[str]]:
        """The options as a model of cells takes them."""
        return {name.replace("-", "_"): text for name, text in self.options.items()}

    @property
    def failed(self) -> bool:
        """Whether `--retry-failed` runs it again."""
        return self.exit_code != EXIT_OK


def pending(
    cells: Iterable[Cell], records: Mapping[str, Record], *, retry_failed: bool
) -> list[Cell]:
    """List the cells that are to be run.

    Args:
        cells: In the plan's order.
        records: What has finished, by key.
        retry_failed: Whether cells that have failed are run again.

    Returns:
        Some of the cells, in the same order.
    """
    return [
        cell
        for cell in cells
        if cell.key not in records or (retry_failed and records[cell.key].failed)
    ]


class Folder:
    """A sweep's folder while a sweep works in it.

    Entering makes the folder if it is missing, locks it, and removes what a killed process has left
    half-written. That raises `UsageError` where the folder is in use, is not a sweep's, or can't be
    written.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def __enter__(self) -> Self:
        with self._complaining():
            self._make()
            self._take()
            self._clean()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise UsageError(f"{error.filename or self.path}: {why}") from None

    def _make(self) -> None:
        if self.path.is_dir():
            names = {each.name for each in self.path.iterdir()}
            # `lock` alone: a sweep was killed before it had written anything.
            if names and not names & {_LOCK, MANIFEST}:
                raise UsageError(f"{self.path} is there already, and is not of a sweep")
        self.path.mkdir(parents=True, exist_ok=True)

    def _take(self) -> None:
        fd = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise UsageError(f"{self.path} is in use: another sweep writes there") from None
        self._lock = fd

    def _clean(self) -> None:
        """Remove the files that a killed process had not yet given their names."""
        for folder in (self.path, self.path / _CELLS, self.path / _REPORTS):
            folder.mkdir(exist_ok=True)
            for left in folder.glob(".*.????????"):
                left.unlink()

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all; one of that name is replaced.

        Args:
            name: Its path from the sweep's folder.
            data: Its content.

        Raises:
            UsageError: It can't be written.
        """
        with self._complaining():
            new = NewFile(str(self.path / name), force=True)
            try:
                with os.fdopen(os.dup(new.fd), "wb") as file:
                    file.write(data)
                os.fsync(new.fd)
                new.commit()
                _sync(new.path.parent)
            finally:
                new.discard()

    def describe(self, manifest: Manifest) -> None:
        """Write the manifest.

        Args:
            manifest: Of the present plan.

        Raises:
            UsageError: It can't be written.
        """
        self.write(MANIFEST, _json(manifest))

    def save(self, record: Record, report: str | None) -> None:
        """Store a cell that has finished.

        Args:
            record: What became of it.
            report: The JSON of its report; None where it has none.

        Raises:
            UsageError: They can't be written.
        """
        if report is not None:
            self.write(f"{_REPORTS}/{record.key}.json", report.encode())
        self.write(f"{_CELLS}/{record.key}.json", _json(record))

    def records(self, keys: Iterable[str], runner: Runner) -> tuple[dict[str, Record], list[str]]:
        """Read what has finished of some cells; see `read_records`.

        Args:
            keys: The cells' identities.
            runner: Has the options and results that a record may have.

        Returns:
            Records by key, and a line about each file that is not a record.
        """
        return read_records(self.path, keys, runner)


def _json(document: BaseModel) -> bytes:
    return document.model_dump_json(indent=1).encode() + b"\n"


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_records(
    path: Path, keys: Iterable[str], runner: Runner
) -> tuple[dict[str, Record], list[str]]:
    """Read what has finished of some cells. No lock is needed.

    A file that is not a record was damaged by somebody else: its cell counts as not run.

    Args:
        path: The sweep's folder.
        keys: The cells' identities.
        runner: Has the options and results that a record may have.

    Returns:
        Records by key, and a line about each file that is not a record.
    """
    records: dict[str, Record] = {}
    complaints: list[str] = []
    for key in keys:
        file = path / _CELLS / f"{key}.json"
        if not os.path.lexists(file):
            continue
        try:
            record = parse_record(read_file(file, _MOST_RECORD), str(file), runner)
        except UsageError as error:
            complaints.append(str(error))
            continue
        if record.key == key:
            records[key] = record
        else:
            complaints.append(f"{file} is the record of another cell")
    return records, complaints


def parse_record(data: bytes, name: str, runner: Runner) -> Record:
    """Parse a record, and check its options as a cell's and its results against their columns.

    Args:
        data: JSON.
        name: Of the file, for complaints.
        runner: Has the options and results that it may have.

    Returns:
        The checked record.

    Raises:
        UsageError: It is not such a record; one line says what is wrong.
    """
    record = _parsed(Record, data, name, "is no record of a cell")
    try:
        option_row(runner.options.model_validate(record.settings))
    except ValidationError as error:
        raise UsageError(f"{name} is no record of a cell: options: {_first(error)}") from None
    except UsageError as error:
        raise UsageError(f"{name} is no record of a cell: options: {error}") from None
    for column in result_columns(runner.options):
        if not column.takes(record.results.get(column.name)):
            where = f"{name} is no record of a cell: results.{column.name}"
            raise UsageError(f"{where}: expected {column.kind}, or null")
    return record


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a sweep's folder.

    Args:
        path: The sweep's folder.

    Returns:
        The plan as it was last run there.

    Raises:
        UsageError: It is not a sweep's folder, or its manifest can't be read.
    """
    file = path / MANIFEST
    if not file.exists():
        why = os.strerror(errno.ENOENT)
        raise UsageError(f"{path} is no folder of a sweep: {MANIFEST}: {why}")
    return parse_manifest(read_file(file, _MOST_MANIFEST), str(file))


def parse_manifest(data: bytes, name: str) -> Manifest:
    """Parse a manifest whose runner and axes exist.

    Args:
        data: JSON.
        name: Of the file, for complaints.

    Returns:
        The checked manifest.

    Raises:
        UsageError: It is not such a manifest.
    """
    manifest = _parsed(Manifest, data, name, "is not of this version")
    try:
        runner = runner_named(manifest.runner)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None
    check_axes(manifest.axes, runner, name)
    return manifest


def check_axes(axes: Sequence[str], runner: Runner, name: str) -> None:
    """Refuse an axis that is not an option of the runner's cells, or occurs twice.

    Args:
        axes: Option names as a plan has them.
        runner: Has the options.
        name: Of the file that has the axes, for complaints.

    Raises:
        UsageError: One of them is wrong.
    """
    for place, axis in enumerate(axes):
        check_known(axis, runner, f"{name}: axes.{place}: {shorten_text(repr(axis))}")
    if len(set(axes)) < len(axes):
        raise UsageError(f"{name}: axes: expected each of them once")


def _parsed(model: type[_Document], data: bytes, name: str, otherwise: str) -> _Document:
    try:
        return model.model_validate(parse_json(data, name))
    except ValidationError as error:
        raise UsageError(f"{name} {otherwise}: {_first(error)}") from None


def report_file(key: str) -> str:
    """Name the file of a cell's report.

    Args:
        key: The cell's identity.

    Returns:
        Its path from the sweep's folder.
    """
    return f"{_REPORTS}/{key}.json"


def _first(error: ValidationError) -> str:
    first, message = first_fault(error)
    return (
        f"{shorten_text('.'.join(map(str, first['loc']))) or 'the whole'}: {shorten_text(message)}"
    )


def planned(cells: Sequence[Cell]) -> tuple[PlannedCell, ...]:
    """Describe cells for the manifest.

    Args:
        cells: In the plan's order.

    Returns:
        One entry for each, in the same order.
    """
    return tuple(
        PlannedCell(key=cell.key, label=cell.label, repeat=cell.repeat, point=dict(cell.point))
        for cell in cells
    )
