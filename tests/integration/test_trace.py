"""A trace on its whole way: recorded, imported, replayed in a guest that is migrated."""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pageferry.common.files.memory_trace import open_trace
from tests.support.file_agent import migrate
from tests.support.harness import Run, command, pageferry
from tests.support.known import known

PAGES = 90
VALGRIND = shutil.which("valgrind")


def lackey_text(accesses: int) -> bytes:
    """As lackey writes it: fetches, reads, writes and modifications of `PAGES` pages."""
    rng = np.random.default_rng(1)
    addresses = 0x1FFE000000 + (rng.permutation(accesses) % PAGES) * 4096
    addresses += rng.integers(0, 511, accesses) * 8
    kinds = rng.choice([" L", " S", " M"], accesses)
    lines = [f"I  0401ab70,3\n{k} {a:x},8\n" for k, a in zip(kinds, addresses, strict=True)]
    return f"==1== Command: test\n{''.join(lines)}==1== \n".encode()


def import_stdin(text: bytes, file: Path, *arguments: str) -> Run:
    done = subprocess.run(
        command("trace", "import", "-", str(file), *arguments),
        input=text,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Run(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "t.npz"
    run = import_stdin(gzip.compress(lackey_text(20_000)), path)
    assert (run.exit_code, run.stderr) == (0, "")
    assert f"{PAGES} pages" in run.stdout
    return path


@pytest.mark.parametrize(
    ("strategy", "memory"), [("pre-copy", "8MiB"), ("three-path", "256KiB"), ("post-copy", "8MiB")]
)
def test_a_guest_that_replays_it_is_migrated(imported: Path, strategy: str, memory: str) -> None:
    digest = open_trace(str(imported)).meta.digest
    run = migrate(
        *("--workload", f"trace:{imported},digest={digest}", "--strategy", strategy),
        *("--memory", memory, "--cache", "64KiB", "--max-bandwidth", "unlimited"),
    )
    assert run.exit_code == 0, run.stderr
    assert run.report.verified is True
    assert known(run.report.guest.steps_after) > 0


@pytest.mark.skipif(VALGRIND is None, reason="valgrind is not installed")
def test_what_valgrind_records_can_be_replayed(tmp_path: Path) -> None:
    text, path = tmp_path / "true.txt", tmp_path / "true.npz"
    subprocess.run(
        [str(VALGRIND), "--tool=lackey", "--trace-mem=yes", f"--log-file={text}", "true"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    run = pageferry("trace", "import", str(text), str(path), "--json", "-")
    assert (run.exit_code, run.stderr) == (0, "")
    counts = json.loads(run.stdout)["text"]
    raw = text.read_bytes()
    assert counts["lines"] == raw.count(b"\n")
    assert counts["instruction_fetches"] == raw.count(b"\nI  ") > 1000
    run = pageferry("trace", "info", str(path), "--json", "-")
    assert json.loads(run.stdout)["verified"] is True
    run = migrate("--workload", f"trace:{path}", "--memory", "8MiB", "--cache", "64KiB")
    assert run.report.verified is True


@pytest.mark.parametrize("kib", [300, 500])  # while the text is read; while the trace is written
def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path: Path, kib: int) -> None:
    (tmp_path / "text").write_bytes(lackey_text(100_000))
    ours = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, ours[1]))  # it inherits it
    try:
        running = subprocess.Popen(
            command("trace", "import", "text", "t.npz", "--limit", str(500 * 1024 // 4)),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, ours)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (2, "")
    assert err == "pageferry: can't write t.npz: File too large\n"
    assert os.listdir(tmp_path) == ["text"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_import_leaves_no_file(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        command("trace", "import", "-", str(tmp_path / "t.npz")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        try:
            assert running.stdin is not None
            running.stdin.write(lackey_text(100_000))  # more than fits in the pipe: it is read
            running.send_signal(number)
            running.wait(60)  # though there might be more to read
            out, err = running.communicate()
        finally:
            running.kill()
    assert (running.returncode, out) == (130, b"")
    assert err.decode() == f"pageferry: cancelled: {tmp_path / 't.npz'} was not written\n"
    assert os.listdir(tmp_path) == []
