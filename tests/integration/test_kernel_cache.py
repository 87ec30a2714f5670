"""Compiled kernels on disk: damaged, read-only, nowhere to keep them, made by several at once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command_line import (
    CHECKOUT,
    SMALL,
    Run,
    command,
    environment,
    pageferry,
    run_words,
)
from tests.support.tiers import FULL, full_only, some
from tests.support.warm_kernels import copy_kernels

# Few kernels, some of them with two signatures, in one process.
LACKEY = "==1== Lackey\nI  04001000,3\n S 1ffeffe7e,8\n L 04222c4f8,8\n M 04222c4f8,8\n"
ONLY_READ = """
set -e
mount --make-rprivate /
for place in $(awk '{print $2}' /proc/mounts | sort -u); do
  case $place in
    /proc* | /sys* | /dev | /dev/pts) ;;
    *) mount -o remount,bind,ro "$place" 2>/dev/null || mount -o remount,ro "$place" ;;
  esac
done
if [ -n "$WRITABLE" ]; then
  mount -t tmpfs tmpfs "$WRITABLE"
  printf %s "$TEXT" >"$WRITABLE/a.txt"
fi
exec "$@"
"""
NOBODY = 65534


def why_not() -> str | None:
    if os.geteuid() != 0:
        return "needs root, for mounts of its own"
    made = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)  # noqa: S607
    return None if made.returncode == 0 else f"unshare --mount: {made.stderr.decode().strip()}"


needs_mounts = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


@dataclass(frozen=True)
class Place:
    """A cache, and a folder for whatever a command writes."""

    cache: Path
    work: Path

    def words(self) -> tuple[str, ...]:
        """A command that needs its kernels."""
        (self.work / "a.txt").write_text(LACKEY)
        (self.work / "a.npz").unlink(missing_ok=True)
        return "trace", "import", str(self.work / "a.txt"), str(self.work / "a.npz")

    def run(self) -> Run:
        return pageferry(*self.words(), XDG_CACHE_HOME=str(self.cache))

    def kernels(self, *functions: str) -> list[Path]:
        """Files with compiled code; of these functions only, where there are some."""
        name = re.compile(r".*(-[0-9a-f]{32}|[.]\d+[.]nbc)")
        found = sorted(path for path in self.cache.rglob("*") if name.fullmatch(path.name))
        ours = [path for path in found if path.name.split("-")[0].split(".")[-1] in functions]
        assert len(ours) >= len(functions)
        return ours if functions else found

    def damaged(self) -> list[Path]:
        """Those that a test damages: what runs, and a function with two signatures that it calls.

        With --full all of them. It takes three seconds to compile them all.
        """
        return self.kernels() if FULL else self.kernels("parse", "_touch")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Run]:
    """A cache that has all of them; to be copied. What the tests' own has is not compiled anew."""
    place = Place(tmp_path_factory.mktemp("warm"), tmp_path_factory.mktemp("work"))
    copy_kernels(place.cache, only="pageferry.trace.lackey_kernel.*")
    run = place.run()
    assert run.exit_code == 0, run.stderr
    return place, run


@pytest.fixture(scope="module")
def warm(filled: tuple[Place, Run]) -> Place:
    return filled[0]


@pytest.fixture(scope="module")
def right(filled: tuple[Place, Run]) -> list[str]:
    return figures(filled[1])


@pytest.fixture
def place(warm: Place, tmp_path: Path) -> Place:
    shutil.copytree(warm.cache, tmp_path / "cache")
    (tmp_path / "work").mkdir()
    return Place(tmp_path / "cache", tmp_path / "work")


def figures(run: Run) -> list[str]:
    """What a trace is, whatever it is called."""
    return [line for line in run.stdout.splitlines() if "digest" in line or "footprint" in line]


def swapped(paths: list[Path]) -> None:
    """Each gets the code of the next one: of another signature, or another function."""
    data = [path.read_bytes() for path in paths]
    for path, other in zip(paths, data[1:] + data[:1], strict=True):
        path.write_bytes(other)


def turned(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def replaced_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "garbage": lambda path: path.write_bytes(os.urandom(20_000)),
    "its beginning": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "a bit turned": turned,
    "a pipe": replaced_by(lambda path: os.mkfifo(path, 0o600)),
    "a link": replaced_by(lambda path: os.symlink("/etc/passwd", path)),
    "of others": lambda path: path.chmod(0o666),
}
SAMPLE = ("empty", "swapped")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(each, marks=[] if each in SAMPLE else [full_only, pytest.mark.full])
        for each in (*DAMAGE, "swapped")
    ],
)
def test_a_damaged_kernel_is_compiled_anew(right: list[str], place: Place, damage: str) -> None:
    """It is said in one line, and the next start has nothing to say."""
    if damage == "swapped":
        swapped(place.damaged())
    else:
        for path in place.damaged() if FULL else place.kernels("parse"):
            DAMAGE[damage](path)
    run = place.run()
    assert run.exit_code == 0, run.stderr
    assert figures(run) == right
    assert "compiled anew" in run.complaint
    assert str(place.cache) in run.complaint
    assert run.lines == [run.complaint]
    again = place.run()
    assert (again.exit_code, again.stderr) == (0, "")
    assert figures(again) == right


def only_read(*arguments: str, writable: str = "", text: str = "", **more: str) -> Run:
    """A command where only `writable` can be written to, which has `a.txt` with that text."""
    words = ["unshare", "--mount", "sh", "-c", ONLY_READ, "sh", *command(*arguments)]
    return run_words(words, env=environment(WRITABLE=writable, TEXT=text, **more))


@needs_mounts
def test_a_cache_that_can_only_be_read_is_used(place: Place) -> None:
    """Nothing is compiled, or it would say that it can't be kept."""
    words = place.words()
    run = only_read(*words, writable=str(place.work), text=LACKEY, XDG_CACHE_HOME=str(place.cache))
    assert (run.exit_code, run.stderr) == (0, "")


@needs_mounts
def test_what_is_missing_of_it_is_kept_elsewhere(place: Place) -> None:
    for path in place.kernels() if FULL else place.kernels("parse"):
        path.unlink()
    places = {"TMPDIR": str(place.work), "XDG_CACHE_HOME": str(place.cache)}
    run = only_read(*place.words(), writable=str(place.work), text=LACKEY, **places)
    assert (run.exit_code, run.stderr) == (0, "")


@needs_mounts
def test_a_damaged_one_that_cannot_be_replaced(place: Place) -> None:
    for path in place.damaged():
        turned(path)
    words = place.words()
    run = only_read(*words, writable=str(place.work), text=LACKEY, XDG_CACHE_HOME=str(place.cache))
    assert run.exit_code == 0, run.stderr
    assert "compiled anew, at every start: it can't be replaced" in run.stderr
    assert len(run.lines) == 2  # and that it can't be kept
    assert "Traceback" not in run.stderr


@needs_mounts
@pytest.mark.parametrize(
    "words",
    some([("--help",), ("--version",), ("inject", "list"), ("migrate", "--help"), ("model",)], 3),
)
def test_nothing_can_be_written_anywhere(tmp_path: Path, words: tuple[str, ...]) -> None:
    run = only_read(*words, XDG_CACHE_HOME=str(tmp_path / "none"))
    assert (run.exit_code, run.stderr) == (0, "")


@needs_mounts
def test_nor_can_kernels_be_kept(warm: Place, tmp_path: Path) -> None:
    """By a command that needs one kernel."""
    words = ("trace", "info", str(warm.work / "a.npz"))
    (tmp_path / "work").mkdir()
    none = str(tmp_path / "none")
    run = only_read(*words, writable=str(tmp_path / "work"), XDG_CACHE_HOME=none)
    assert run.exit_code == 0, run.stderr
    assert run.lines == [run.complaint]
    assert "can't be kept" in run.complaint


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Nobody's folder, where nobody can go: below pytest's own they could not."""
    folder = Path("/tmp") / f"pageferry-kernels-{os.getpid()}"  # noqa: S108
    folder.mkdir()
    shutil.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which the cache belongs to")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")
def test_roots_cache_is_used_by_others(place: Place, temporary: Path) -> None:
    """As of an image whose kernels root compiled: what is used is not compiled a second time."""
    shutil.move(place.cache, temporary / "cache")
    for path in (temporary / "cache", *(temporary / "cache").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    theirs = Place(temporary / "cache", temporary / "work")
    theirs.work.mkdir()
    words = theirs.words()
    shutil.chown(theirs.work, NOBODY, NOBODY)
    keep = "-all,+dac_read_search"  # an interpreter may be in somebody's home
    drop = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    drop += ["--bounding-set", keep, "--inh-caps", keep, "--ambient-caps", "+dac_read_search"]
    places = {"XDG_CACHE_HOME": str(theirs.cache), "TMPDIR": str(theirs.work)}
    run = run_words([*drop, *command(*words)], cwd=Path("/"), env=environment(HOME="/", **places))
    assert (run.exit_code, run.stderr) == (0, "")
    made = [path for path in theirs.work.rglob("*") if path.is_file()]
    assert [path.name for path in made if path.parent != theirs.work] == []


@full_only
@pytest.mark.full
@pytest.mark.timeout(1200)
def test_several_that_compile_at_once(tmp_path: Path) -> None:
    """Into one empty cache; whoever comes later finds nothing wrong."""
    names = ("zipf", "uniform", "sequential", "game-server")
    words = [("migrate", *SMALL, "--quiet", "--workload", name) for name in names]
    variables = environment(XDG_CACHE_HOME=str(tmp_path))
    running = [
        subprocess.Popen(command(*each), env=variables, cwd=CHECKOUT, stdout=subprocess.DEVNULL)
        for each in words
    ]
    assert [process.wait(600) for process in running] == [0] * len(names)
    for each in words:
        run = pageferry(*each, XDG_CACHE_HOME=str(tmp_path))
        assert (run.exit_code, run.stderr) == (0, "")


@full_only
@pytest.mark.full
@pytest.mark.timeout(600)
def test_what_an_agent_finds_is_said_by_its_command(tmp_path: Path) -> None:
    words = ("migrate", *SMALL, "--quiet", "--workload", "uniform")
    first = pageferry(*words, timeout=500, XDG_CACHE_HOME=str(tmp_path))
    assert (first.exit_code, first.stderr) == (0, "")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            turned(path)
    run = pageferry(*words, timeout=500, XDG_CACHE_HOME=str(tmp_path))
    assert run.exit_code == 0, run.stderr
    assert run.lines == [run.complaint]
    assert "compiled anew" in run.complaint
