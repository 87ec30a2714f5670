"""What users get wrong: one clear line, the right exit code, never a traceback."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from pageferry.common.wire import encoder, header
from tests.support import file_agent
from tests.support.harness import command, destination, heard, pageferry
from tests.support.tiers import some

SMALL = ("--memory", "16MiB", "--warmup", "0s", "--run-after", "0s", "--max-bandwidth", "unlimited")

USAGE = {
    "unknown option": (("migrate", "--bogus", "1"), "--bogus"),
    "unknown command": (("migrat",), "migrat"),
    "unknown workload": (("migrate", "--workload", "chess"), "chess.*idle.*zipf"),
    "unknown key": (("migrate", "--workload", "idle:colour=red"), "colour"),
    "bad workload value": (("migrate", "--workload", "uniform:rate=fast"), "fast"),
    "no size": (("migrate", "--memory", "lots"), "--memory.*lots.*GiB"),
    "not whole pages": (("migrate", "--memory", "1000001"), "4096"),
    "too small": (("migrate", "--memory", "4KiB"), "too small"),
    "negative": (("migrate", "--memory", "-5GiB"), "memory"),
    "larger than the machine": (("migrate", "--memory", "4TiB"), "4TiB.*free"),
    "cache geometry": (("migrate", "--cache", "5MiB"), "--cache 5MiB.*expected 4MiB or 8MiB"),
    "cache line": (("migrate", "--cache-line", "100"), "power of two"),
    "no rate": (("migrate", "--max-bandwidth", "100"), "100MB/s"),
    "rate of zero": (("migrate", "--max-bandwidth", "0mbit"), "max-bandwidth.*zero"),
    "unknown strategy": (("migrate", "--strategy", "teleport"), "three-path"),
    "thresholds": (("migrate", "--low", "60%"), "--low 60% is above --high 50%"),
    "share": (("migrate", "--low", "150%"), "150%"),
    "time": (("migrate", "--warmup", "5"), "300ms"),
    "rounds": (("migrate", "--max-rounds", "-1"), "max-rounds"),
    "congestion": (("migrate", "--congestion", "telepathy", *SMALL), "telepathy"),
    "no folder for the report": (("migrate", "--json", "/nonexistent/x.json"), "/nonexistent"),
    "address": (("source", "--to", "nowhere"), "HOST:PORT"),
    "port": (("source", "--to", "localhost:99999"), "99999"),
    "long port": (("source", "--to", "localhost:" + "1" * 5000), "HOST:PORT"),
    "empty label": (("source", "--to", "a..b:1"), "a..b"),
    "long host": (("source", "--to", "a" * 300 + ":1"), "at most 253 characters"),
    "host of a byte": (("source", "--to", "\udcff:1"), "expected the name of a host"),
    "guest's rate of zero": (("migrate", "--workload", "uniform:rate=0"), "more than zero"),
    "no name for the report": (("migrate", "--json", ""), "--json.*name"),
    "no folder for the page": (
        ("migrate", "--html", "/nonexistent/x.html"),
        "--html.*/nonexistent",
    ),
    "no name for the page": (("migrate", "--html", ""), "--html.*name"),
    "a page on standard output": (("compare", "--html", "-"), "--html"),
    "two reports in one file": (
        ("migrate", "--json", "/nonexistent/x", "--html", "/nonexistent/./x"),
        "--json and --html both name",
    ),
    "nothing to report": (("report", "--html", "/nonexistent/x.html"), "at least one RESULT.json"),
    "no result there": (("report", "/nonexistent.json"), "/nonexistent.json can't be read"),
    "a result that is not there": (
        ("report", "/nonexistent.json", "--html", "/nonexistent/x.html"),
        "/nonexistent.json can't be read",
    ),
    "a prediction that nobody asked for": (
        ("migrate", "--assume-bandwidth", "1MB/s"),
        "--assume-bandwidth.*--predict",
    ),
    "a way that nobody knows": (
        ("source", "--to", "192.0.2.1:1", "--predict", "--max-bandwidth", "unlimited"),
        "192.0.2.1.*--assume-bandwidth RATE",
    ),
    "no time to measure": (
        ("predict", "--measure", "1ms"),
        "--measure.*1ms.*too short.*50ms to 1h",
    ),
    "status descriptor": (("migrate", "--status-fd", "77"), "--status-fd.*77"),
    "no address": (("source",), "--to"),
    "listen": (("dest", "--listen", "300.1.1.1:1"), "300.1.1.1"),
}


@pytest.mark.parametrize("name", USAGE)
def test_bad_usage_is_one_line_and_exit_code_2(name: str) -> None:
    arguments, expected = USAGE[name]
    run = file_agent.pageferry(*arguments)
    assert run.exit_code == 2, run.stderr
    assert re.search(expected, run.complaint, re.IGNORECASE), run.complaint
    assert run.stdout == ""


def test_the_address_at_which_nobody_listens_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        run = pageferry("source", "--to", f"127.0.0.1:{port}", *SMALL)
    assert run.exit_code == 1
    assert "refused" in run.complaint
    assert f"127.0.0.1:{port}" in run.complaint


def test_a_host_that_does_not_exist_is_named() -> None:
    run = pageferry("source", "--to", "no-such-host.invalid:4444", *SMALL)
    assert run.exit_code == 1
    assert "no-such-host.invalid" in run.complaint


def test_a_port_in_use_is_named() -> None:
    with destination() as (_agent, port):
        run = pageferry("dest", "--listen", f"127.0.0.1:{port}")
    assert run.exit_code == 2
    assert re.search(rf"{port}.*in use", run.complaint)


class Peer:
    """Something that answers on a port, once, and is no pageferry agent."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(self._answer)

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(20)
        self._listener.close()


PEERS = {
    "web server": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not a pageferry agent.*HTTP/1.1"),
    "other version": (encoder.encode_preface(9), "version mismatch.*version 9.*version 5"),
    "hangs up": (b"", "during the handshake"),
    "half a preface": (b"pgferry", "during the handshake"),
    "talks nonsense": (encoder.encode_preface() + b"\xff" * 64, "unknown"),
}


@pytest.mark.parametrize("name", PEERS)
def test_the_source_meets_a_stranger(name: str) -> None:
    answer, expected = PEERS[name]
    with Peer(answer) as peer:
        run = pageferry("source", "--to", f"127.0.0.1:{peer.port}", *SMALL)
    assert run.exit_code == 1, run.stderr
    assert re.search(expected, run.complaint), run.complaint


STRANGERS = {
    "an HTTP client": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "not a pageferry agent.*GET"),
    "random bytes": (bytes(range(256)), "not a pageferry agent"),
    "other version": (encoder.encode_preface(9), "version mismatch"),
    "no hello": (encoder.encode_preface() + b"\xff" * 64, "unknown"),
    "a page frame": (
        encoder.encode_preface() + header.HEADER.pack(2, 1, 1, 0, 8 + 4096) + bytes(4104),
        "carries none",
    ),
    "hangs up": (b"", "closed"),
}


def test_the_destination_meets_strangers_and_goes_on() -> None:
    with destination() as (agent, port):
        for data, _ in STRANGERS.values():
            with socket.create_connection(("127.0.0.1", port), timeout=20) as stranger:
                stranger.sendall(data)
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(4096):  # it is told nothing but a preface, and let go
                    pass
        run = pageferry("source", "--to", f"127.0.0.1:{port}", "--json", "-", *SMALL)
        assert run.exit_code == 0, run.stderr
        assert run.report.verified is True
        agent.process.terminate()
        said = agent.end().stderr
    assert "Traceback" not in said
    for _, expected in STRANGERS.values():
        assert re.search(f"turned away.*{expected}", said), said


def test_a_version_mismatch_is_told_to_the_source_too() -> None:
    with (
        destination() as (_agent, port),
        socket.create_connection(("127.0.0.1", port), timeout=20) as other,
    ):
        other.sendall(encoder.encode_preface(9))
        assert other.recv(64) == encoder.encode_preface()


def test_guest_size_mismatch_is_said_at_both_ends() -> None:
    with destination("--memory", "32MiB") as (agent, port):
        run = pageferry("source", "--to", f"127.0.0.1:{port}", *SMALL)
        assert run.exit_code == 1
        assert re.search(r"guest size mismatch.*16MiB.*32MiB", run.stderr)
        agent.wait_said(r"guest size mismatch.*16MiB.*32MiB")


@pytest.mark.parametrize("to", [">/dev/full", ">&-"])
@pytest.mark.parametrize("arguments", [("--help",), ("migrate", *SMALL)])
def test_standard_output_that_takes_nothing(arguments: tuple[str, ...], to: str) -> None:
    words = command(*arguments)
    if to == ">&-":  # as only a shell starts it
        words = ["sh", "-c", f'"$@" {to}', "sh", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    said = heard(done.stderr)
    assert re.fullmatch("pageferry: .*standard output.*\n", said), said


@pytest.mark.parametrize("arguments", [("--help",), ("migrate", *SMALL)])
def test_nobody_reads_standard_output(arguments: tuple[str, ...]) -> None:
    running = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    running.stdout.close()
    running.stdout = None
    assert heard(running.communicate()[1]) == ""
    assert running.returncode == 0


@pytest.mark.parametrize("name", some(["source", "migrate"], 2))
def test_a_terminal_that_knows_only_ascii(name: str) -> None:
    """Both show the same table; the agents of `migrate` have none."""
    with destination() as (_agent, port):
        to = ("--to", f"127.0.0.1:{port}") if name == "source" else ()
        done = subprocess.run(
            command(name, *to, *SMALL),
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            check=False,
        )
    assert (done.returncode, heard(done.stderr.decode("ascii"))) == (0, "")
    assert b"completed" in done.stdout


def test_a_report_that_is_a_symbolic_link(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to("target.json")
    assert pageferry("migrate", "--json", str(link), *SMALL).exit_code == 0
    assert link.is_symlink()
    assert '"verified": true' in (tmp_path / "target.json").read_text()


def test_a_full_disk_for_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run = pageferry("migrate", "--json", "/dev/full", *SMALL)
    assert run.exit_code == 0  # of the migration, which went well
    found = re.search(
        r"migration is over.*/dev/full.*No space left.*; it is in (.*)", run.complaint
    )
    assert found is not None, run.complaint
    assert json.loads(Path(found[1]).read_text())["verified"] is True
    assert "completed" in run.stdout  # the table was printed all the same


def test_a_full_disk_for_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, aside = tmp_path / "report.json", tmp_path / "aside"
    aside.mkdir()
    monkeypatch.setenv("TMPDIR", str(aside))
    run = pageferry("migrate", "--html", "/dev/full", "--json", str(target), *SMALL)
    assert run.exit_code == 0
    assert re.search(r"migration is over.*/dev/full.*No space left", run.complaint)
    (page,) = aside.glob("pageferry-*")
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert '"verified": true' in target.read_text()  # nothing of it is lost


def test_a_failed_migration_has_a_page(tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    run = pageferry("source", "--to", "127.0.0.1:1", "--html", str(page), *SMALL)
    assert run.exit_code == 1
    assert "The migration failed: " in page.read_text()


def test_the_report_appears_whole_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    run = pageferry("migrate", "--json", str(target), *SMALL)
    assert run.exit_code == 0, run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert '"verified": true' in target.read_text()
