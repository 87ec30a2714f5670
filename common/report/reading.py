"""Reports that were written as JSON, by this version or an earlier one: read, and checked whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from pageferry.common.config.model import MigrationConfig, first_fault
from pageferry.common.errors import UsageError
from pageferry.common.files.input_files import parse_json, read_file, shorten_text
from pageferry.common.report.schema import Report

MOST_BYTES: Final = 1 << 28  # a series of traced runs may have a tenth of it
_SCHEMA: Final = 1
_SERIES: Final = ("runs", "table")

_Document = TypeVar("_Document", bound=BaseModel)


def read_report(file: Path) -> Report:
    """Read the report of one migration.

    Args:
        file: What `--json` or `Report.save` has written.

    Returns:
        The report, checked whole.

    Raises:
        UsageError: One line that names the file, the place in it, and what was expected.
    """
    data = parse_document(read_file(file, MOST_BYTES), str(file))
    if is_series(data):
        raise UsageError(f"{file} has several runs: expected one report (Reports.load reads both)")
    return check_report(data, str(file))


def parse_document(raw: bytes, file: str) -> dict[str, Any]:
    """Parse what may be a report, or a series of them.

    Args:
        raw: The file's bytes.
        file: Its name, for messages.

    Returns:
        A JSON object with the right `schema_version`; nothing else in it has been checked.

    Raises:
        UsageError: It is neither.
    """
    data = parse_json(raw, file)
    if not isinstance(data, dict):
        raise UsageError(f"{file} is no result of pageferry: expected a JSON object")
    version = data.get("schema_version")
    if version != _SCHEMA or isinstance(version, bool):
        told = (
            "no schema_version"
            if version is None
            else f"schema_version {shorten_text(repr(version))}"
        )
        raise UsageError(f"{file} has {told}: expected {_SCHEMA}")
    if "outcome" not in data and not is_series(data):
        raise UsageError(
            f"{file} is no report of a migration: expected what migrate, source, compare or"
            " reproduce write with --json"
        )
    return data


def is_series(data: dict[str, Any]) -> bool:
    """Tell whether a document is a series of runs, as `compare` writes it.

    Args:
        data: From `parse_document`.

    Returns:
        Whether it has runs, or a table of them.
    """
    return any(key in data for key in _SERIES)


def check_report(data: dict[str, Any], file: str) -> Report:
    """Check the report of one migration.

    Args:
        data: From `parse_document`.
        file: Its name, for messages.

    Returns:
        The report.

    Raises:
        UsageError: A field is wrong; the message names it.
    """
    report = check_fields(file, Report, data)
    check_config(file, "config", report.config)
    return report


def check_config(file: str, where: str, config: dict[str, Any]) -> None:
    """Refuse options with a kind of value that no option can have; others are shown as they are.

    Args:
        file: The file's name, for messages.
        where: The place of `config` in it, for messages.
        config: Options as a report has them; those that are missing or null are passed over.

    Raises:
        UsageError: An option has a list where it has one value, or the reverse.
    """
    for name, option in MigrationConfig.model_fields.items():
        value = config.get(name)
        several = isinstance(option.default, tuple)
        if value is None or (isinstance(value, str | int | float) and not several):
            continue
        if not several or not isinstance(value, list) or not all(isinstance(e, str) for e in value):
            expected = "a list of texts" if several else "one value"
            raise UsageError(
                f"{file}: {where}.{name}: {shorten_text(repr(value))}: expected {expected}"
            )


def check_fields(file: str, model: type[_Document], data: dict[str, Any]) -> _Document:
    """Check every field of a document.

    Args:
        file: The file's name, for messages.
        model: What it has to be.
        data: From `parse_document`.

    Returns:
        The document as that model.

    Raises:
        UsageError: About the first field that is wrong.
    """
    try:
        return model.model_validate(data, strict=True)  # a text of digits is no number
    except ValidationError as error:
        first, message = first_fault(error)
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{file}: {shorten_text(where)}: {shorten_text(message)}") from None
