"""The diagrams of the hand-over are drawn from its tables."""

from __future__ import annotations

import re

from pageferry.common.handover import TABLE, Role
from scripts.docs_handover import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m scripts.docs_handover"


def test_every_step_that_changes_something_is_drawn() -> None:
    drawn = re.findall(r"^    (\w+) --> (\w+): (.+)$", page().partition("## Recovery")[0], re.M)
    arrows = [(a, b, event) for a, b, events in drawn for event in events.split(", ")]
    steps = [
        (state.value.replace("-", "_"), to.value.replace("-", "_"), event.replace("_", " "))
        for role in Role
        for (end, state), events in TABLE.items()
        for event, to in events.items()
        if end is role and to is not state
    ]
    assert sorted(arrows) == sorted(steps)
