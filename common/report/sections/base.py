"""What every section of a report has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ReportSection(BaseModel):
    """A part of a report; fields that it does not name are refused."""

    model_config = ConfigDict(extra="forbid")
