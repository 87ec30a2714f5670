"""What every section of a report has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ReportSection(BaseModel):
    """A part of a report; what it does not name is refused."""

    model_config = ConfigDict(extra="forbid")
