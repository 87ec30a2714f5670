"""Texts of valgrind's lackey as people have them: compressed, edited, of several processes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.support.command_line import Run, command, environment, pageferry
from tests.support.tiers import FULL

TEXT = b"""==7== Lackey, an example Valgrind tool
==7== Command: ls
I  0401ab70,3
 L 1fff000778,8
 S 1fff00073c,8
 M 04225ffc,8
==7== Exit code:       0
"""
C_FORKS = """
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile char mine[8192], childs[8192];
int main(int n, char **words)
{
    volatile char *p = mine;
    pid_t child = fork();
    if (!child) p = childs;
    for (int i = 0; i < 8192; i += 64) p[i] = 1;
    if (!child) { if (n > 1) execl("/bin/true", "true", (char *)0); _exit(0); }
    wait(0);
    return !words;
}
"""


def zipped(data: bytes, *more: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("text", *more):
            archive.writestr(name, data)
    return out.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "zip": zipped,
}


def imported(folder: Path, text: bytes, *options: str) -> Run:
    (folder / "text.txt").write_bytes(text)
    return pageferry("trace", "import", "text.txt", "t.npz", "--json", "-", *options, cwd=folder)


def digest(folder: Path, text: bytes, *options: str) -> str:
    run = imported(folder, text, "--force", *options)
    assert run.exit_code == 0, run.stderr
    return str(run.json["trace"]["digest"])


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of `TEXT`."""
    return digest(tmp_path_factory.mktemp("usual"), TEXT)


EDITED = {
    "leading blanks are lost": TEXT.replace(b"\n ", b"\n"),
    "more blanks": TEXT.replace(b"\n ", b"\n    "),
    "tabs": TEXT.replace(b"\n ", b"\n\t").replace(b"L ", b"L\t").replace(b"I  ", b"I\t"),
    "0x": TEXT.replace(b" 1fff", b" 0x1fff").replace(b" 0401", b" 0X0401"),
    "ends of lines of another system": TEXT.replace(b"\n", b"\r\n"),
    "a byte order mark": b"\xef\xbb\xbf" + TEXT,
    "UTF-16": TEXT.decode().encode("utf-16"),
    "blanks at the ends": TEXT.replace(b"\n", b" \t\n"),
}


@pytest.mark.parametrize("how", EDITED)
def test_what_editors_and_shells_do_to_a_text_is_forgiven(
    tmp_path: Path, usual: str, how: str
) -> None:
    assert digest(tmp_path, EDITED[how]) == usual


def test_what_follows_an_access_is_left_out_and_counted(tmp_path: Path, usual: str) -> None:
    text = TEXT.replace(b"778,8", b"778,8 hello").replace(b"ffc,8", b"ffc,8\t# x")
    run = imported(tmp_path, text)
    assert run.exit_code == 0, run.stderr
    assert run.json["trace"]["digest"] == usual
    assert run.json["text"]["trailing_lines"] == 2


MALFORMED = (
    b" L 1fff, 8",
    b"total 12",
    b"L1fff,8",
    b" L 1fff,8x",
    b" L 1fff",
    b" X 1,8",
    b" L 0x,8",
)


@pytest.mark.parametrize("line", MALFORMED if FULL else MALFORMED[:2])
def test_anything_else_is_malformed_and_passed_over_only_if_asked(
    tmp_path: Path, usual: str, line: bytes
) -> None:
    text = TEXT + line + b"\n"
    run = imported(tmp_path, text)
    assert run.exit_code == 2
    assert "line 8: " in run.complaint
    assert "--skip-unknown" in run.complaint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]
    assert digest(tmp_path, text, "--skip-unknown") == usual


@pytest.mark.parametrize("kind", PACKERS)
def test_compressed_texts_are_known_by_what_is_in_them(
    tmp_path: Path, usual: str, kind: str
) -> None:
    packed = PACKERS[kind](TEXT)
    assert digest(tmp_path, packed) == usual
    run = imported(tmp_path, packed[: len(packed) * 2 // 3], "--force")
    assert run.exit_code == 2
    assert "early" in run.complaint
    assert kind in run.complaint


def test_an_archive_with_several_files_is_refused(tmp_path: Path) -> None:
    run = imported(tmp_path, zipped(TEXT, "another"))
    assert run.exit_code == 2
    assert "2 files" in run.complaint


@pytest.mark.parametrize("kind", ["bzip2", "xz", "zstd", "gzip"])
def test_compressed_texts_come_through_a_pipe(tmp_path: Path, usual: str, kind: str) -> None:
    done = subprocess.run(
        command("trace", "import", "-", "t.npz", "--json", "-"),
        input=PACKERS[kind](TEXT),
        capture_output=True,
        cwd=tmp_path,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert usual in done.stdout.decode()


PLAN = b'[options]\nmemory = "16MiB"\n[grid]\nstrategy = ["pre-copy"]\n'
FLEET = b'[[guest]]\nmemory = "2GiB"\nworkload = "zipf:rate=1MB/s"\n'
AS_SAVED: dict[str, Callable[[bytes], bytes]] = {
    "with a mark": lambda data: b"\xef\xbb\xbf" + data,
    "with a mark and CRLF": lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"),
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "UTF-16, the other order": lambda data: b"\xfe\xff" + data.decode().encode("utf-16-be"),
}


@pytest.mark.parametrize("how", AS_SAVED)
def test_text_files_are_read_as_editors_save_them(tmp_path: Path, how: str) -> None:
    (tmp_path / "plan.toml").write_bytes(AS_SAVED[how](PLAN))
    run = pageferry("sweep", "plan.toml", "--dry-run", cwd=tmp_path)
    assert run.exit_code == 0, run.stderr
    assert "strategy=pre-copy" in run.stdout
    (tmp_path / "fleet.toml").write_bytes(AS_SAVED[how](FLEET))
    fleet = ("simulate", "--fleet", "fleet.toml", "--link", "rate=10gbit,delay=1ms")
    run = pageferry(*fleet, "--json", "-", cwd=tmp_path)
    assert run.exit_code == 0, run.stderr


@pytest.mark.parametrize("how", AS_SAVED)
def test_reports_are_read_as_editors_save_them(tmp_path: Path, how: str) -> None:
    made = pageferry("simulate", "--memory", "16MiB", "--json", "r.json", cwd=tmp_path)
    assert made.exit_code == 0, made.stderr
    report = tmp_path / "r.json"
    report.write_bytes(AS_SAVED[how](report.read_bytes()))
    run = pageferry("report", "r.json", "--html", "r.html", cwd=tmp_path)
    assert run.exit_code == 0, run.stderr


@pytest.mark.parametrize(
    "more",
    [
        b"==8== Command: cat\n S 1000,8\n",
        b" S 1000,8\n==00:00:01.2 8== Exit code: 0\n",
        b"==7== Command: an exec keeps the id\n S 1000,8\n",
    ],
    ids=["a child's start", "a child's end", "an exec"],
)
def test_a_text_of_two_processes_is_refused(tmp_path: Path, more: bytes) -> None:
    """Nothing in an access says whose it is: two memories would be taken for one."""
    for options in ((), ("--skip-unknown",)):
        run = imported(tmp_path, TEXT + more, *options)
        assert run.exit_code == 2
        assert "--log-file=trace.%p" in run.complaint
        assert "--mixed" in run.complaint
        assert not (tmp_path / "t.npz").exists()
    run = imported(tmp_path, TEXT + more, "--mixed")
    assert run.exit_code == 0, run.stderr
    assert run.json["text"]["processes"] == 2


@pytest.mark.skipif(
    not (shutil.which("valgrind") and shutil.which("gcc")), reason="needs valgrind and gcc"
)
def test_what_valgrind_writes_of_a_program_that_forks(tmp_path: Path) -> None:
    """It traces the child without being asked. A file for each process is what is wanted."""
    (tmp_path / "a.c").write_text(C_FORKS)
    subprocess.run(
        [shutil.which("gcc") or "", "-o", "a", "a.c"], cwd=tmp_path, check=True, timeout=60
    )
    record = ("valgrind", "--tool=lackey", "--trace-mem=yes")
    for log in ("one.txt", "own.%p"):
        subprocess.run([*record, f"--log-file={log}", "./a"], cwd=tmp_path, check=True, timeout=100)
    run = pageferry("trace", "import", "one.txt", "t.npz", cwd=tmp_path)
    assert run.exit_code == 2
    assert "processes" in run.complaint
    own = sorted(tmp_path.glob("own.*"))
    assert len(own) == 2
    for each in own:
        run = pageferry("trace", "import", each.name, "t.npz", "--force", cwd=tmp_path)
        assert run.exit_code == 0, run.stderr
