"""The JSON Schema of a report, for programs that read one without this package."""

from __future__ import annotations

import json
from typing import Any

from pageferry.common.report.schema import Report


def report_schema() -> dict[str, Any]:
    """Make the JSON Schema (draft 2020-12) of a report with `schema_version` 1.

    Every report that any version with this `schema_version` has written is valid. Fields that were
    added later are therefore not required, though this version writes all of them.

    Returns:
        A schema, as JSON has it.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Report.model_json_schema(mode="validation"),
        "title": "pageferry report",
    }


def schema_text() -> str:
    """Make the text of docs/report.schema.json.

    Returns:
        Indented JSON, one trailing newline.
    """
    return json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n"
