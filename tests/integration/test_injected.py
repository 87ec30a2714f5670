"""Faults by the words that README prints."""

from __future__ import annotations

from tests.support.command_line import SMALL, pageferry


def test_half_of_post_copy_is_a_place_for_a_cut() -> None:
    """Connections have two ends: whichever of the agents is meant, it is both that are cut off."""
    options = ("--strategy", "post-copy", "--memory", "16MiB", "--max-bandwidth", "20MB/s")
    run = pageferry("migrate", *options, "--inject", "postcopy-50%:cut", "--json", "-")
    assert run.exit_code == 0, run.stderr
    assert run.json["verified"] is True
    assert "postcopy-recovered" in [event["event"] for event in run.json["events"]]


def test_a_kill_there_still_asks_whose() -> None:
    run = pageferry("migrate", *SMALL, "--inject", "postcopy-50%:kill")
    assert run.exit_code == 2
    assert "source/postcopy-50%" in run.complaint
