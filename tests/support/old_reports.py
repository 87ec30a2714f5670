"""Results that version 0.1.0 wrote (at commit 11e5463): what was written must stay readable."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1] / "data" / "reports_v1"
SERIES: Final = FOLDER / "compare.json"
REPORTS: Final = sorted(file for file in FOLDER.glob("*.json") if file != SERIES)
