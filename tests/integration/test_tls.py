"""Mutual TLS: whole migrations, broken ones, and everybody who must not come in."""

from __future__ import annotations

import asyncio
import datetime
import re
import shutil
import socket
import ssl
from pathlib import Path

import pytest
import trustme
import uvloop

from pageferry.commands.certs import certs
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import PeerRefused, UsageError
from pageferry.common.wire import messages
from pageferry.common.wire.connecting import connect
from pageferry.common.wire.link_policy import LinkPolicy
from pageferry.common.wire.tls_credentials import client_tls, server_tls
from pageferry.source_agent.report.build import make_report
from tests.integration.test_postcopy_broken import CONFIG as BROKEN
from tests.integration.test_postcopy_broken import CutOnce
from tests.support.harness import destination, migrate, pageferry
from tests.support.inprocess import changed, listening, session_to
from tests.support.through_relay import moved_through
from tests.support.tiers import some

SMALL = ("--memory", "16MiB", "--warmup", "0s", "--run-after", "0s", "--max-bandwidth", "unlimited")
CONFIG = MigrationConfig(
    memory=2**23,
    workload="zipf:zero-share=20%,rate=40MB/s",
    max_bandwidth=40e6,
    warmup=0.05,
    run_after=0.05,
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `source` and `dest`, as `pageferry certs` makes it."""
    folder = tmp_path_factory.mktemp("keys")
    assert certs(folder) == 0
    return folder


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of another CA."""
    folder = tmp_path_factory.mktemp("strangers")
    assert certs(folder) == 0
    return folder


class TestWhole:
    @pytest.mark.parametrize(
        ("strategy", "faults"), [("pre-copy", "auto"), ("post-copy", "kernel")]
    )
    def test_processes_migrate_over_tls_by_each_mechanism(
        self, keys: Path, strategy: str, faults: str
    ) -> None:
        options = ("--strategy", strategy, "--faults", faults, "--memory", "16MiB")
        run = migrate("--tls", str(keys / "dest"), "--workload", "zipf:rate=40MB/s", *options)
        assert run.exit_code == 0, run.stderr
        assert run.report.verified is True
        assert run.report.config["tls"] is True

    @pytest.mark.parametrize(
        ("strategy", "checksum"),
        some(  # each strategy, with and without checksums in turn
            [
                *(("stop-and-copy", True), ("stop-and-copy", False)),
                *(("three-path", False), ("three-path", True)),
                *(("hybrid", True), ("hybrid", False)),
                *(("lazy-copy", False), ("lazy-copy", True)),
            ],
            2,
        ),
    )
    def test_each_strategy_verifies_over_tls(
        self, keys: Path, strategy: str, checksum: bool
    ) -> None:
        update = {"strategy": strategy, "checksum": checksum, "postcopy_after": "rounds=1"}
        config = changed(CONFIG, update)
        report, error, _, _ = uvloop.run(moved_through(config, folder=keys / "dest"))
        assert error is None
        assert report.verified is True

    def test_nothing_travels_in_clear(self, keys: Path) -> None:
        """No connection of a session begins with our preface, or carries it."""
        seen: list[bytes] = []

        def look(_sent: int, chunk: bytes) -> None:
            seen.append(chunk)

        config = CONFIG.model_copy(update={"strategy": "post-copy"})
        report, error, _, _ = uvloop.run(
            moved_through(config, look, cut_back=look, folder=keys / "dest")
        )
        assert error is None
        stream = b"".join(seen)
        assert b"pgferry" not in stream
        assert b"hello" not in stream
        # What is counted is what was there, but for handshakes and what only the relay's cuts add.
        assert report.bytes_on_wire == pytest.approx(len(stream), abs=60_000)

    @pytest.mark.parametrize(
        ("mechanism", "offsets"),
        some(
            [
                *(("kernel", [1_500_000, 2_500_000]), ("kernel", [200_000])),
                *(("software", [200_000]), ("software", [1_500_000, 2_500_000])),
            ],
            2,
        ),
    )
    def test_a_cut_while_pages_are_missing(
        self, keys: Path, mechanism: str, offsets: list[int]
    ) -> None:
        config = BROKEN.model_copy(update={"faults": mechanism})
        report, error, said, _ = uvloop.run(
            moved_through(config, CutOnce(*offsets), folder=keys / "dest")
        )
        assert error is None, said
        assert report.verified is True
        names = [event.event for event in report.events if event.agent == "source"]
        assert names.count("postcopy-recovered") == len(offsets)


def issued(folder: Path, name: str, days: int = 30, *, authority: trustme.CA | None = None) -> Path:
    """A folder of credentials for one name, of an authority of our own."""
    authority = authority or trustme.CA()
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    begin = until - datetime.timedelta(days=60)
    one = authority.issue_cert(name, not_after=until, not_before=begin)
    folder.mkdir(exist_ok=True)
    authority.cert_pem.write_to_path(folder / "ca-cert.pem")
    for role in ("server", "client"):
        one.cert_chain_pems[0].write_to_path(folder / f"{role}-cert.pem")
        key = folder / f"{role}-key.pem"
        one.private_key_pem.write_to_path(key)
        key.chmod(0o600)
    return folder


def attempt(
    source: Path | None, dest: Path | None, *options: str, host: str = "127.0.0.1"
) -> tuple[int, str, str]:
    """A migration that ends early: its exit code, its line, and what the destination said."""
    with destination(*(("--tls", str(dest)) if dest else ())) as (agent, port):
        mine = ("--tls", str(source)) if source else ()
        run = pageferry("source", "--to", f"{host}:{port}", *mine, *SMALL, *options)
        agent.process.terminate()
        return run.exit_code, run.stderr, agent.end().stderr


class TestWhoComesIn:
    def test_a_destination_of_another_ca(self, keys: Path, strangers: Path) -> None:
        code, line, said = attempt(keys / "source", strangers / "dest")
        assert code == 1
        assert re.fullmatch(r"pageferry: 127.*showed a certificate that is not accepted.*\n", line)
        assert re.search("turned away: no TLS with it: it did not accept our certificate", said)

    def test_a_source_of_another_ca(self, keys: Path, strangers: Path, tmp_path: Path) -> None:
        """It believes the destination, which does not believe it."""
        mixed = tmp_path / "mixed"
        shutil.copytree(strangers / "source", mixed)
        shutil.copy(keys / "ca-cert.pem", mixed / "ca-cert.pem")
        code, line, said = attempt(mixed, keys / "dest")
        assert code == 1
        assert re.fullmatch(r"pageferry: 127.*did not accept our certificate.*\n", line), line
        assert re.search("turned away: no TLS with it: it showed a certificate", said), said

    def test_an_expired_certificate_is_not_accepted(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        old = issued(tmp_path / "old", "127.0.0.1", -1, authority=authority)
        new = issued(tmp_path / "new", "127.0.0.1", authority=authority)
        code, line, _ = attempt(new, old)
        assert code == 1
        assert re.search("not accepted: certificate has expired", line), line
        code, line, said = attempt(old, new)
        assert code == 1
        assert re.search("did not accept our certificate: it has expired", line), line
        assert re.search("certificate has expired", said), said

    def test_a_certificate_of_another_host_is_not_accepted(self, tmp_path: Path) -> None:
        folder = issued(tmp_path / "other", "elsewhere.example")
        code, line, _ = attempt(folder, folder)
        assert code == 1
        assert re.search("not accepted: .*mismatch.*127.0.0.1.*--tls-hostname", line), line
        code, line, _ = attempt(folder, folder, "--tls-hostname", "elsewhere.example")
        assert (code, line) == (0, "")

    def test_a_plain_source_is_refused_by_a_destination_with_tls(self, keys: Path) -> None:
        code, line, said = attempt(None, keys / "dest")
        assert code == 1
        assert re.search("refused: this destination takes TLS only", line), line
        assert re.search("turned away: it speaks no TLS", said), said

    def test_a_source_with_tls_is_refused_by_a_plain_destination(self, keys: Path) -> None:
        code, line, said = attempt(keys / "source", None)
        assert code == 1
        assert re.search("does it have --tls, too", line), line
        assert re.search("turned away: it speaks TLS, and this destination has no --tls", said)

    def test_no_certificate_at_all(self, keys: Path) -> None:
        context = ssl.create_default_context(cafile=keys / "ca-cert.pem")
        with destination("--tls", str(keys / "dest")) as (agent, port):
            with (
                socket.create_connection(("127.0.0.1", port), timeout=20) as sock,
                context.wrap_socket(sock, server_hostname="localhost") as secure,
                pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
            ):
                secure.recv(1)
            agent.wait_said("it showed no certificate")

    def test_tls_1_2_is_refused(self, keys: Path) -> None:
        context = ssl.create_default_context(cafile=keys / "ca-cert.pem")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with destination("--tls", str(keys / "dest")) as (agent, port):
            with (
                socket.create_connection(("127.0.0.1", port), timeout=20) as sock,
                pytest.raises(ssl.SSLError),
            ):
                context.wrap_socket(sock, server_hostname="localhost")
            agent.wait_said("it does not speak TLS 1.3")

    def test_another_certificate_does_not_join_a_session(self, keys: Path) -> None:
        """Not even with the secret: all of a session is one peer."""

        async def scenario() -> None:
            async with listening(secure=server_tls(keys / "dest")) as (_agent, port, said):
                config = CONFIG.model_copy(update={"strategy": "post-copy", "warmup": 0.3})
                session = session_to(port, config, client_tls(keys / "source"))
                task = asyncio.create_task(session.run())
                await said.until("preparing")
                other = client_tls(keys / "dest")
                hello = session._context.connections.hello("query")
                connection = await connect("127.0.0.1", port, hello, LinkPolicy(secure=other))
                with pytest.raises(PeerRefused, match="not of session"):
                    await connection.expect(messages.CommitOutcome)
                connection.close()
                await task
                assert make_report(session.record).verified is True

        uvloop.run(scenario())


class TestFolders:
    def test_it_is_not_there(self, tmp_path: Path) -> None:
        for command in (
            ("migrate", *SMALL),
            ("source", "--to", "127.0.0.1:1"),
            ("dest", "--listen", "127.0.0.1:0"),
        ):
            run = pageferry(*command, "--tls", str(tmp_path))
            assert run.exit_code == 2
            assert re.search(r"--tls .*ca-cert.pem.*No such file", run.complaint)

    def test_a_key_that_others_can_read(self, keys: Path, tmp_path: Path) -> None:
        folder = tmp_path / "open"
        shutil.copytree(keys / "dest", folder)
        (folder / "server-key.pem").chmod(0o640)
        with pytest.raises(UsageError, match=r"others may use server-key.pem .mode 0640.: chmod"):
            server_tls(folder)
        client_tls(folder)

    @pytest.mark.parametrize("name", ["ca-cert.pem", "client-cert.pem", "client-key.pem"])
    def test_what_is_no_pem(self, keys: Path, tmp_path: Path, name: str) -> None:
        folder = tmp_path / "bad"
        shutil.copytree(keys / "dest", folder)
        (folder / name).write_text("hello")
        with pytest.raises(UsageError, match="do not make credentials"):
            client_tls(folder)

    def test_a_key_of_another_certificate(
        self, keys: Path, strangers: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "mixed"
        shutil.copytree(keys / "dest", folder)
        shutil.copy(strangers / "dest" / "client-key.pem", folder / "client-key.pem")
        with pytest.raises(UsageError, match="do not make credentials"):
            client_tls(folder)

    def test_a_name_without_a_folder(self) -> None:
        run = pageferry("migrate", *SMALL, "--tls-hostname", "x")
        assert run.exit_code == 2
        assert "needs --tls" in run.complaint


class TestBeyondLoopback:
    @pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
    def test_only_with_tls_or_on_purpose(self, address: str, keys: Path) -> None:
        run = pageferry("dest", "--listen", address)
        assert run.exit_code == 2
        assert re.search("without TLS.*--tls DIR.*--insecure", run.complaint)
        for option, words in (
            (("--insecure",), "--insecure: whoever reaches"),
            (("--tls", str(keys / "dest")), "TLS only"),
        ):
            with destination(*option, listen=address) as (agent, _port):
                agent.process.terminate()
                assert words in agent.end().stderr
