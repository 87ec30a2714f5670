"""What is installed is one package, whatever else is there: from a wheel, and from an sdist."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.support import outside
from tests.support.tiers import some

PROJECT: Final = Path(__file__).parents[2]
BUILD_S: Final = 100.0
SMALL: Final = (
    *("--memory", "4MiB", "--warmup", "0s", "--run-after", "0s", "--workload", "idle", "--quiet"),
    *("--max-bandwidth", "unlimited"),
)


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _build(project: Path, target: str, folder: Path) -> Path:
    _run(sys.executable, "-P", "-m", "hatchling", "build", "-t", target, "-d", folder, cwd=project)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of the checkout, and one of what its sdist has."""
    folder = tmp_path_factory.mktemp("built")
    sdist = _build(PROJECT, "sdist", folder / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked")  # noqa: S202 - our own; filters came in 3.11.4
    (unpacked,) = (folder / "unpacked").iterdir()
    return {
        "checkout": _build(PROJECT, "wheel", folder / "of-the-checkout"),
        "sdist": _build(unpacked, "wheel", folder / "of-the-sdist"),
    }


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_both_hold_the_same_files_below_one_name(wheels: dict[str, Path]) -> None:
    names = _names(wheels["checkout"])
    assert names == _names(wheels["sdist"])
    assert {name.partition("/")[0] for name in names} == {"pageferry"}
    tracked = _run(
        "git", "ls-files", "pageferry", "common", "source_agent", "dest_agent", cwd=PROJECT
    )
    links = {"pageferry/common", "pageferry/source_agent", "pageferry/dest_agent"}
    expected = {
        f"pageferry/{name}".replace("pageferry/pageferry/", "pageferry/")
        for name in tracked.split()
    }
    assert names == expected - links


def _foreign(folder: Path) -> Path:
    """Somebody else's distribution, which has a package `common`, too."""
    wheel = folder / "otherapp-1.0-py3-none-any.whl"
    info = "otherapp-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("common/__init__.py", "raise ImportError('of otherapp')\n")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: otherapp\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            f"{info}/RECORD",
            f"common/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
        )
    return wheel


class Environment:
    """A fresh one, which has the libraries of the one that runs this, and nothing else of it."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self._bin = folder / "bin"
        site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self._cwd = folder / "elsewhere"
        self._cwd.mkdir()

    def pip(self, *arguments: str | Path) -> None:
        pip = (sys.executable, "-P", "-m", "pip", "--python", self._bin / "python")
        _run(*pip, *arguments, cwd=self._cwd)

    def install(self, *wheels: Path) -> None:
        self.pip("install", "--quiet", "--no-index", "--no-deps", *wheels)

    def run(self, program: str, *arguments: str) -> str:
        return _run(self._bin / program, *arguments, cwd=self._cwd)


TESTS = """
import asyncio, pageferry, pytest

@pytest.mark.pageferry(downtime_ms=5000)
def test_a_migration(pageferry_migrate, tmp_path):
    report = pageferry_migrate(memory="4MiB", warmup=0, run_after=0, max_bandwidth="unlimited")
    assert report.verified
    report.save(tmp_path / "run.json")
    assert pageferry.Report.load(tmp_path / "run.json") == report

def test_functions():
    with pytest.raises(pageferry.UsageError, match="too small"):
        pageferry.migrate(memory="4KiB")
    assert "<svg" in pageferry.simulate(workload="zipf")._repr_html_()
    assert asyncio.run(pageferry.aio.simulate(link="rate=10gbit")).outcome == "completed"

def test_a_destination(pageferry_dest):
    assert pageferry_dest.port
"""


@pytest.mark.parametrize("source", some(["sdist", "checkout"], 2))
def test_it_runs_beside_a_foreign_package_and_without_it(
    wheels: dict[str, Path], tmp_path: Path, source: str
) -> None:
    """The command, the modules, the functions, and the plug-in."""
    fresh = Environment(tmp_path / "fresh")
    fresh.install(wheels[source], _foreign(tmp_path))
    where = fresh.run("python", "-c", "import pageferry.common; print(pageferry.common.__file__)")
    assert Path(where.strip()).is_relative_to(tmp_path)
    fresh.run("pageferry", "migrate", *SMALL)
    fresh.pip("uninstall", "--quiet", "--yes", "otherapp")
    fresh.run("pageferry", "--version")
    fresh.run("python", "-m", "pageferry.dest_agent", "--help")
    session = outside.run(tmp_path, TESTS, python=tmp_path / "fresh/bin/python")
    assert "3 passed" in session.said, session.said
    (loaded,) = [line for line in session.said.splitlines() if line.startswith("plugins: ")]
    assert "pageferry-" in loaded


def test_nothing_heavy_is_loaded_by_its_import() -> None:
    code = "import sys, pageferry; print({'numpy', 'numba', 'pydantic'} & {*sys.modules})"
    assert _run(sys.executable, "-P", "-c", code, cwd=PROJECT) == "set()\n"
