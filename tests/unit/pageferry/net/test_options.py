from __future__ import annotations

import os
import re
from typing import Any

import pytest

from pageferry.common.errors import UsageError
from pageferry.net import namespaces
from pageferry.net.options import NetOptions
from pageferry.net.shape import parse_shape


def test_without_an_option_there_is_no_network() -> None:
    assert NetOptions().spec() is None


def test_a_relay_needs_no_shape_and_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    bare = NetOptions(link="relay").spec()
    assert bare is not None
    assert bare.kind == "relay"
    shaped = NetOptions(link="relay", net="rate=1mbit", schedule=("at 1s outage=2s",)).spec()
    assert shaped is not None
    assert shaped.shape == parse_shape("rate=1mbit")
    assert [moment.outage for moment in shaped.moments] == [True, False]


def test_every_run_has_a_name_of_its_own() -> None:
    specs = [NetOptions(link="relay").spec() for _ in range(9)]
    names = {spec.name for spec in specs if spec is not None}
    assert len(names) == 9
    assert {namespaces.checked_name(name) for name in names} == names


def test_namespaces_need_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match=r"--net needs root.*--link relay"):
        NetOptions(net="rate=1mbit").spec()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setitem(__import__("sys").modules, "pyroute2", None)
    with pytest.raises(UsageError) as caught:
        NetOptions(net="rate=1mbit").spec()
    assert re.fullmatch(
        r"--net needs pyroute2: .*pip install 'pyroute2>=[\d.]+'", str(caught.value)
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"link": "relay", "net": "loss=1%"}, "--link relay has no loss"),
        ({"link": "relay", "shaper": "tc"}, "are for --link namespaces"),
        ({"schedule": ("at 1s rate=1mbit",)}, "--schedule means nothing without --net or --link"),
        ({"offloads": "on"}, "--offloads means nothing without --net or --link"),
        ({"net": "speed=1mbit"}, "a link has no 'speed'"),
        ({"link": "relay", "schedule": ("at 1s",)}, "expected something like"),
    ],
)
def test_what_makes_no_sense_is_said(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        NetOptions(**options).spec()
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a/b", "..", "a" * 33])
def test_names_are_names(name: str) -> None:
    with pytest.raises(UsageError, match="is not a name"):
        namespaces.checked_name(name)
