"""Each command that README and docs print is one that the real command line takes."""

from __future__ import annotations

import itertools

import pytest
from cyclopts import CycloptsError
from pydantic import ValidationError

from pageferry.cli import make_app
from pageferry.common.command_line.run import worded
from pageferry.common.config.addresses import parse_address
from pageferry.common.errors import UsageError
from pageferry.common.workload.registry import parse_workload
from pageferry.net.schedule import parse_schedule
from pageferry.net.shape import parse_shape
from pageferry.sim.link import parse_link
from tests.support.documented import Printed, printed

APP = make_app()
PRINTED = printed()
PLACEHOLDERS = ("ARGS", "…", "...", "ADDRESS", "PLAN.toml", "[")


def test_there_are_commands() -> None:
    assert len(PRINTED) > 80
    assert any(each.words[0] == "migrate" and each.root for each in PRINTED)


@pytest.mark.parametrize("command", PRINTED, ids=str)
def test_the_command_line_takes_it(command: Printed) -> None:
    words = list(command.words)
    if any(word.startswith(PLACEHOLDERS) or "…" in word for word in words):
        pytest.skip("it has a place to be filled in")
    try:
        APP.parse_args(words, exit_on_error=False, print_error=False)
    except (ValidationError, CycloptsError) as error:
        pytest.fail(worded(error))
    except SystemExit as ended:  # --help, --version
        assert ended.code in (0, None)  # noqa: PT017
    try:
        _inside(words)
    except UsageError as error:
        pytest.fail(str(error))


def _inside(words: list[str]) -> None:
    """What only the commands themselves read."""
    for option, value in itertools.pairwise(words):
        if option == "--net":
            parse_shape(value)
        elif option == "--link" and words[0] == "simulate":
            parse_link(value)
        elif option == "--schedule":
            parse_schedule([value])
        elif option == "--workload":
            parse_workload(value)
        elif option in ("--to", "--listen"):
            parse_address(value, option)
