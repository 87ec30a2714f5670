"""What is said where a library is missing: something that works when it is typed."""

from __future__ import annotations

import shutil
import sys
from importlib import metadata, util
from pathlib import Path

import pytest

from pageferry.common.command_line import libraries
from pageferry.common.command_line.libraries import how_to_install, require_library
from pageferry.common.errors import UsageError


@pytest.fixture(autouse=True)
def activated(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment whose pip is the one that the shell finds."""
    beside = Path(sys.executable).with_name("pip")
    monkeypatch.setattr(shutil, "which", lambda name: str(beside) if name == "pip" else None)


def test_what_is_there_is_not_asked_for() -> None:
    require_library("this test", "pytest", "numpy")


def test_all_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(UsageError) as caught:
        require_library("it", "not_there", "numpy", "cryptography")
    said = "it needs not_there and cryptography: pip install not_there 'cryptography>=42'"
    assert str(caught.value) == said


def test_a_module_that_is_called_otherwise() -> None:
    assert how_to_install("distributed").startswith("pip install 'dask[distributed]>=")


def test_every_extra_has_its_versions() -> None:
    """By the package's own list, whichever that is."""
    words = how_to_install("pyroute2", "pyarrow", "duckdb", "plotly").split()[2:]
    assert len(words) == 4
    assert all(">=" in word for word in words)


def test_of_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = how_to_install("cryptography", "jinja2", "distributed")

    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    assert how_to_install("cryptography", "jinja2", "distributed") == installed


def test_without_metadata_pip_installs_the_library_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _name: None)
    assert how_to_install("cryptography") == "pip install cryptography"


def test_for_an_environment_that_is_not_activated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/pip")
    monkeypatch.setattr(sys, "executable", "/home/a b/.venv/bin/python")
    assert how_to_install("lz4").startswith("'/home/a b/.venv/bin/python' -m pip install 'lz4>=")


def test_for_an_environment_without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    real = util.find_spec
    monkeypatch.setattr(libraries, "find_spec", lambda name: None if name == "pip" else real(name))
    assert how_to_install("lz4").startswith(f"pip --python {sys.executable} install 'lz4>=")
