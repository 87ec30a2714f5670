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
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import EXIT_OK, UsageError
from common.newfile import NewFile
from lab.sweep.cells import SCHEMA, Cell

MANIFEST: Final = "sweep.json"
RESULTS: Final = "results.parquet"
_LOCK: Final = "lock"
_CELLS: Final = "cells"
_REPORTS: Final = "reports"
_Document = TypeVar("_Document", bound=BaseModel)


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA


class PlannedCell(BaseModel):
    """A cell of the plan, whether it has been run or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    label: str
    repeat: int
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

    key: str
    label: str
    runner: str
    options: dict[str, str | list[str]]
    outcome: str
    exit_code: int
    error: str | None
    started: str
    seconds: float
    worker: str
    attempts: int = Field(ge=1)
    versions: dict[str, str] = {}
    results: dict[str, bool | int | float | str | None]
    has_report: bool

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

    def records(self, keys: Iterable[str]) -> tuple[dict[str, Record], list[str]]:
        """What has finished of these, and a line about each file that is no record."""
        return read_records(self.path, keys)


def _json(document: BaseModel) -> bytes:
    return document.model_dump_json(indent=1).encode() + b"\n"


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_records(path: Path, keys: Iterable[str]) -> tuple[dict[str, Record], list[str]]:
    """What has finished of these, and a line about each file that is no record. No lock is needed.

    A file that is no record was damaged by somebody else: its cell counts as one to be run.
    """
    records: dict[str, Record] = {}
    complaints: list[str] = []
    for key in keys:
        file = path / _CELLS / f"{key}.json"
        try:
            record = Record.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValidationError) as error:
            complaints.append(f"{file} is no record of a cell: {_first_line(error)}")
            continue
        if record.key == key:
            records[key] = record
        else:
            complaints.append(f"{file} is the record of another cell")
    return records, complaints


def read_manifest(path: Path) -> Manifest:
    """Raises `UsageError`."""
    file = path / MANIFEST
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise UsageError(f"{path} is no folder of a sweep: {MANIFEST}: {why}") from None
    except ValidationError as error:
        raise UsageError(f"{file} is not of this version: {_first_line(error)}") from None


def report_file(key: str) -> str:
    """Its name, from the sweep's folder."""
    return f"{_REPORTS}/{key}.json"


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
    return str(error)


def planned(cells: Sequence[Cell]) -> tuple[PlannedCell, ...]:
    """As the manifest has them."""
    return tuple(
        PlannedCell(key=cell.key, label=cell.label, repeat=cell.repeat, point=dict(cell.point))
        for cell in cells
    )
