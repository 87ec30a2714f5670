"""Progress as lines: when there is one, and what it says."""

from __future__ import annotations

import json
import threading

import pytest

from pageferry.common.process.status import Status
from pageferry.common.terminal import progress
from pageferry.common.terminal.console import ProgressView
from pageferry.common.terminal.progress import Lines, ProgressOptions, Wish, form_of

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("wish", "terminal", "form"),
    [
        ("auto", True, "bar"),
        ("auto", False, "plain"),
        ("plain", True, "plain"),
        ("json", True, "json"),
        ("none", True, "none"),
    ],
)
def test_what_is_shown_where(wish: Wish, terminal: bool, form: str) -> None:
    assert form_of(wish, terminal=terminal) == form


def test_quiet_is_no_progress() -> None:
    assert ProgressOptions(quiet=True, progress="json").wish == "none"
    assert ProgressOptions().wish == "auto"


def test_what_is_over_at_once_says_nothing_unasked(capsys: Captured) -> None:
    with Lines("auto", terminal=False) as lines:
        lines.show("round 1", "round 1", {})
    assert capsys.readouterr() == ("", "")


def test_kernels_are_announced_at_once(capsys: Captured) -> None:
    with Lines("auto", terminal=False) as lines:
        phase = "run 1 of 2 · compiling kernels for zipf (first start only)"
        for _ in range(3):
            lines.show(phase, phase, {})
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert phase in err


def test_a_line_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    said, enough = [], threading.Event()

    def note(line: str, **_: object) -> None:
        said.append(line)
        if len(said) == 3:
            enough.set()

    monkeypatch.setattr("builtins.print", note)
    with Lines("auto", terminal=False) as lines:
        lines.show("round 1 · 5 MB", "round 1", {})
        assert enough.wait(30)
    assert all(line.startswith("[ ") and line.endswith("s] round 1 · 5 MB\n") for line in said)


def test_a_reader_that_does_not_read_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    stuck, goes_on = threading.Event(), threading.Event()

    def wait(*_: object, **__: object) -> None:
        stuck.set()
        goes_on.wait(30)

    monkeypatch.setattr("builtins.print", wait)
    with Lines("auto", terminal=False) as lines:
        lines.show("round 1", "round 1", {})
        assert stuck.wait(30)
        other = threading.Thread(target=lines.show, args=("round 2", "round 2", {}))
        other.start()
        other.join(5)
        held_up = other.is_alive()
        goes_on.set()
        other.join()
    assert not held_up


def test_an_object_a_line(capsys: Captured) -> None:
    with ProgressView("json") as view:
        view.update(Status(phase="booting the guest"))
        view.update(Status(phase="round 1", round=1, total_bytes=5, rate=2.5, dirty_ratio=0.5))
    out, err = capsys.readouterr()
    first, last = (json.loads(line) for line in err.splitlines())
    assert out == ""
    assert first["phase"] == "booting the guest"
    assert last["t_s"] >= first["t_s"] >= 0
    del last["t_s"]
    assert last == {
        "phase": "round 1",
        "round": 1,
        "round_bytes": 0,
        "round_expected_bytes": 0,
        "total_bytes": 5,
        "rate_Bps": 2.5,
        "dirty_ratio": 0.5,
        "elapsed_s": 0.0,
    }


def test_progress_none_writes_nothing(capsys: Captured) -> None:
    with ProgressView("none") as view:
        view.update(Status(phase="compiling kernels for zipf"))
    assert capsys.readouterr().err == ""


def test_a_reader_that_has_gone_away_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", broken)
    with Lines("json", terminal=False) as lines:
        lines.show("round 1", "round 1", {})
