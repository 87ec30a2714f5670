"""The folder of a sweep: what has finished, for good, whenever the process is killed.

    lock             held (flock) by the one sweep that works here; the kernel frees it at the end
    sweep.json       the cells of the present plan, in order (`Manifest`)
    cells/KEY.json   a finished cell (`Record`): its presence *is* that the cell has finished
    reports/KEY.json its whole report, as `--json` writes it, where there is one
    results.parquet  all of it, one row a cell, made from `cells/`

A file is written without its name, then synced, then given the name: it is there whole or not at
all. A report comes before its record, so that a record never lacks one. KEY is the identity of the
cell's configuration: a cell can't be there twice, and one that an edited plan still has is kept.
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
from pageferry.common.files.input_files import cut, parse_json, read_file
from pageferry.sweeps.cells import SCHEMA, Cell, check_known
from pageferry.sweeps.columns import option_row, result_columns
from pageferry.sweeps.runners import Runner, runner_named

MANIFEST: Final = "sweep.json"
RESULTS: Final = "results.parquet"
_LOCK: Final = "lock"
_CELLS: Final = "cells"
_REPORTS: Final = "reports"
_MOST_RECORD: Final = 1 << 24  # bytes; one has some 4 KiB
_MOST_MANIFEST: Final = 1 << 28  # of 100,000 cells
_Document = TypeVar("_Document", bound=BaseModel)


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA


Key = Annotated[str, Field(pattern="^[0-9a-f]{20}$")]  # a part of files' names


class PlannedCell(BaseModel):
    """A cell of the plan, whether it has been run or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Key
    label: str
    repeat: int = Field(ge=0, lt=2**31)
    point: dict[str, str]


class Manifest(_Stored):
    """The plan as it was last run. axes: the options that change, the first slowest."""

    name: str
    runner: str
    axes: tuple[str, ...]
    cells: tuple[PlannedCell, ...]


class Record(_Stored):
    """A finished cell. outcome: the report's; without one, `failed`, or `lost` with its process.

    options: texts, as flags take them; results: the report's columns. started: UTC, ISO 8601;
    seconds: of the whole cell, start-up counted. worker: where it was run. attempts: how often it
    was begun on a cluster, where a worker can be lost. versions: of Python and libraries there;
    empty in records of earlier versions.
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
        """Whether `--retry-failed` means it."""
        return self.exit_code != EXIT_OK


def pending(
    cells: Iterable[Cell], records: Mapping[str, Record], *, retry_failed: bool
) -> list[Cell]:
    """Those that are to be run, in the plan's order."""
    return [
        cell
        for cell in cells
        if cell.key not in records or (retry_failed and records[cell.key].failed)
    ]


class Folder:
    """A sweep's folder while it is worked in. Raises `UsageError`."""

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
        """What a process that was killed had not yet given its name."""
        for folder in (self.path, self.path / _CELLS, self.path / _REPORTS):
            folder.mkdir(exist_ok=True)
            for left in folder.glob(".*.????????"):
                left.unlink()

    def write(self, name: str, data: bytes) -> None:
        """A file, whole or not at all."""
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
        """Say what the plan has."""
        self.write(MANIFEST, _json(manifest))

    def save(self, record: Record, report: str | None) -> None:
        """This cell has finished. report: the JSON of its report."""
        if report is not None:
            self.write(f"{_REPORTS}/{record.key}.json", report.encode())
        self.write(f"{_CELLS}/{record.key}.json", _json(record))

    def records(self, keys: Iterable[str], runner: Runner) -> tuple[dict[str, Record], list[str]]:
        """What has finished of these, and a line about each file that is no record."""
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
    """What has finished of these, and a line about each file that is no record. No lock is needed.

    A file that is no record was damaged by somebody else: its cell counts as one to be run.
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
    """A record whose options a cell can have, and whose results have their columns' types.

    name: of the file, for complaints. Raises `UsageError`.
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
    """Raises `UsageError`."""
    file = path / MANIFEST
    if not file.exists():
        why = os.strerror(errno.ENOENT)
        raise UsageError(f"{path} is no folder of a sweep: {MANIFEST}: {why}")
    return parse_manifest(read_file(file, _MOST_MANIFEST), str(file))


def parse_manifest(data: bytes, name: str) -> Manifest:
    """A plan as it was run, whose runner and axes there are. Raises `UsageError`."""
    manifest = _parsed(Manifest, data, name, "is not of this version")
    try:
        runner = runner_named(manifest.runner)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None
    check_axes(manifest.axes, runner, name)
    return manifest


def check_axes(axes: Sequence[str], runner: Runner, name: str) -> None:
    """Raises `UsageError` where one is no option of the runner's cells, or is there twice."""
    for place, axis in enumerate(axes):
        check_known(axis, runner, f"{name}: axes.{place}: {cut(repr(axis))}")
    if len(set(axes)) < len(axes):
        raise UsageError(f"{name}: axes: expected each of them once")


def _parsed(model: type[_Document], data: bytes, name: str, otherwise: str) -> _Document:
    try:
        return model.model_validate(parse_json(data, name))
    except ValidationError as error:
        raise UsageError(f"{name} {otherwise}: {_first(error)}") from None


def report_file(key: str) -> str:
    """Its name, from the sweep's folder."""
    return f"{_REPORTS}/{key}.json"


def _first(error: ValidationError) -> str:
    first, message = first_fault(error)
    return f"{cut('.'.join(map(str, first['loc']))) or 'the whole'}: {cut(message)}"


def planned(cells: Sequence[Cell]) -> tuple[PlannedCell, ...]:
    """As the manifest has them."""
    return tuple(
        PlannedCell(key=cell.key, label=cell.label, repeat=cell.repeat, point=dict(cell.point))
        for cell in cells
    )
