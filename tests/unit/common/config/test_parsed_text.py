"""Options that are parsed once: text to whoever writes them, and what it means to all others."""

from __future__ import annotations

import copy
import pickle

import pytest

from pageferry.common.config.model import MigrationConfig
from pageferry.common.config.prepage import ADAPTIVE, MOST, Prepage
from pageferry.common.inject import Action, Injection
from pageferry.common.wire.frames import MAX_WINDOW


@pytest.mark.parametrize(
    "options", [{}, {"prepage": "7", "postcopy_after": "time=1500ms", "inject": ["paused:cut:0"]}]
)
def test_a_copy_knows_what_the_original_knew(options: dict[str, object]) -> None:
    config = MigrationConfig(**options)
    pickled = pickle.loads(pickle.dumps(config))  # noqa: S301 - our own
    read_again = MigrationConfig.model_validate_json(config.model_dump_json())
    for other in (copy.deepcopy(config), pickled, read_again):
        assert other.prepage.pages == config.prepage.pages
        assert other.postcopy_after.amount == config.postcopy_after.amount
        assert [each.action for each in other.inject] == [each.action for each in config.inject]
        assert other.to_json() == config.to_json()


def test_documents_have_what_was_written() -> None:
    config = MigrationConfig(postcopy_after="time=1500ms", prepage="0")
    written = config.to_json()
    assert (written["postcopy_after"], written["prepage"]) == ("time=1500ms", "0")
    default = MigrationConfig.model_json_schema()["properties"]
    assert (default["postcopy_after"]["default"], default["prepage"]["default"]) == (
        "rounds=2",
        "adaptive",
    )


@pytest.mark.parametrize("window", [ADAPTIVE, Prepage("0"), Prepage("65535")])
def test_a_window_travels_as_a_number(window: Prepage) -> None:
    assert Prepage.from_wire(window.on_wire) == window
    assert MOST == MAX_WINDOW


def test_a_fault_is_the_text_that_gives_it_again() -> None:
    fault = Injection("dest", "ready", Action.STALL, 0.3)
    assert fault == "dest/ready:stall:300ms"
    assert copy.copy(fault).amount == 0.3
