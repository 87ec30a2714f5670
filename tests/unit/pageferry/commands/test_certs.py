"""`pageferry certs`: what it writes, and what it does not write over."""

from __future__ import annotations

import datetime
import stat
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pageferry.commands.certs import certs
from pageferry.common.errors import UsageError
from pageferry.common.wire.tls_credentials import client_tls, server_tls


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path: Path) -> list[str]:
    found = certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in found.value]


def test_two_hosts_of_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert certs(tmp_path) == 0
    for host in ("source", "dest"):
        client_tls(tmp_path / host)
        server_tls(tmp_path / host)
        found = names(tmp_path / host / "server-cert.pem")
        assert found == [host, "localhost", "127.0.0.1", "::1"]
    said = capsys.readouterr().out
    assert str(tmp_path / "dest") in said
    assert "--tls DIR" in said


def test_the_hosts_that_are_named(tmp_path: Path) -> None:
    certs(tmp_path, host=["alpha.example,10.0.0.1", "beta.example,fd00::2"])
    assert names(tmp_path / "alpha.example" / "client-cert.pem") == ["alpha.example", "10.0.0.1"]
    assert names(tmp_path / "beta.example" / "server-cert.pem") == ["beta.example", "fd00::2"]
    assert not (tmp_path / "source").exists()


def test_for_both_ends_and_not_for_ever(tmp_path: Path) -> None:
    certs(tmp_path)
    authority = certificate(tmp_path / "ca-cert.pem")
    found = certificate(tmp_path / "dest" / "server-cert.pem")
    found.verify_directly_issued_by(authority)
    purposes = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {*purposes} == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    now = datetime.datetime.now(datetime.UTC)
    assert found.not_valid_before_utc < now
    assert datetime.timedelta(300) < found.not_valid_after_utc - now < datetime.timedelta(826)
    assert authority.not_valid_after_utc > found.not_valid_after_utc


def test_keys_are_ones_own(tmp_path: Path) -> None:
    certs(tmp_path / "keys")
    keys = [*(tmp_path / "keys").rglob("*key.pem")]
    assert len(keys) == 5
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert len({key.read_bytes() for key in keys}) == 3


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    certs(tmp_path)
    before = (tmp_path / "ca-key.pem").read_bytes()
    with pytest.raises(UsageError, match=r"ca-key.pem is there already.*--force"):
        certs(tmp_path)
    assert (tmp_path / "ca-key.pem").read_bytes() == before
    certs(tmp_path, force=True)
    assert (tmp_path / "ca-key.pem").read_bytes() != before
    client_tls(tmp_path / "source")


def test_a_key_is_not_written_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "ca-key.pem").symlink_to(target)
    with pytest.raises(UsageError, match="is there already"):
        certs(folder)
    certs(folder, force=True)
    assert not target.exists()


@pytest.mark.parametrize("host", ["", "a,", "a/b", "..", "a" * 300, "a..b"])
def test_what_is_no_host(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="--host"):
        certs(tmp_path, host=[host])


def test_two_hosts_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--host"):
        certs(tmp_path, host=["a", "a,b"])


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't write"):
        certs(tmp_path / "file" / "keys")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(UsageError, match=r"needs cryptography: .*pip install 'cryptography>=42'"):
        certs(tmp_path)
