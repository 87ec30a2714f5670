"""`pageferry certs`: names that match, hosts that come later; and credentials out of their time."""

from __future__ import annotations

import datetime
import signal
import subprocess
import time
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from tests.support.command_line import CHECKOUT, RUN_S, SMALL, Run, command, environment, pageferry
from tests.support.memory_limit import ulimited

DAY = datetime.timedelta(days=1)


def certs(folder: Path, *arguments: str) -> Run:
    return pageferry("certs", str(folder), *arguments)


def names(folder: Path) -> list[str]:
    file = folder / "server-cert.pem"
    assert file.exists(), sorted(folder.parent.iterdir())
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in found.value]


@pytest.mark.parametrize(
    ("host", "folder", "expected"),
    [
        ("[fd00::2]", "fd00::2", ["fd00::2"]),
        ("beta,[FD00::2],10.0.0.2", "beta", ["beta", "fd00::2", "10.0.0.2"]),
        ("Beta.Example.", "beta.example", ["beta.example"]),
        ("beta,beta,BETA", "beta", ["beta"]),
        ("beta,bücher.example", "beta", ["beta", "xn--bcher-kva.example"]),
    ],
)
def test_a_name_in_the_form_that_matches(
    tmp_path: Path, host: str, folder: str, expected: list[str]
) -> None:
    run = certs(tmp_path / "keys", "--host", host)
    assert run.exit_code == 0, run.stderr
    assert names(tmp_path / "keys" / folder) == expected


@pytest.mark.parametrize(
    "host",
    [
        *("beta:4444", "x y", "[fd00::2]:4444", "10.0.0.2:4444", "fe80::1%eth0", "*.example"),
        *("beta,x y", "[beta]", "fd00::/64", "https://beta", "root@beta", "10.0.0.256", "10.0.0"),
        *("beta\n", "beta\t", " beta", "beta,", ",beta", "0.0.0.0", "::", "ca-key.pem"),  # noqa: S104
        *("a" * 64, "be;ta", "-beta", "beta-", "*", "beta:", "::g", ".".join(["a" * 60] * 5)),
    ],
)
def test_a_name_that_can_never_match(tmp_path: Path, host: str) -> None:
    run = certs(tmp_path / "keys", f"--host={host}")
    assert run.exit_code == 2, run.stdout
    assert run.complaint.startswith("pageferry: --host")
    assert run.lines == [run.complaint]
    assert not (tmp_path / "keys").exists()


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_third_host_comes_later(tmp_path: Path) -> None:
    """Those that are there stay as they are, and the three move guests to one another."""
    keys = tmp_path / "keys"
    here = "127.0.0.1"
    assert certs(keys, "--host", f"alpha,{here}", "--host", f"beta,{here}").exit_code == 0
    before = files(keys)
    run = certs(keys, "--host", f"gamma,{here}")
    assert run.exit_code == 0, run.stderr
    after = files(keys)
    assert {name: data for name, data in after.items() if name in before} == before
    assert {name.partition("/")[0] for name in after.keys() - before.keys()} == {"gamma"}
    assert names(keys / "gamma") == ["gamma", here]
    with running("dest", "--tls", str(keys / "gamma"), "--once") as (port, _):
        moved = pageferry("source", "--to", f"{here}:{port}", "--tls", str(keys / "alpha"), *SMALL)
        assert moved.exit_code == 0, moved.stderr


def test_a_host_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert certs(keys, "--host", "alpha", "--host", "beta").exit_code == 0
    before = files(keys)
    run = certs(keys, "--host", "gamma", "--host", "beta")
    assert run.exit_code == 2
    assert "is there already" in run.complaint
    assert "--renew" in run.complaint
    assert files(keys) == before
    assert certs(keys, "--host", "beta,10.0.0.2", "--renew").exit_code == 0
    changed = {name for name, data in files(keys).items() if before.get(name) != data}
    assert {name.partition("/")[0] for name in changed} == {"beta"}
    assert files(keys)["beta/ca-cert.pem"] == before["beta/ca-cert.pem"]
    assert names(keys / "beta") == ["beta", "10.0.0.2"]


@pytest.mark.parametrize("more", [(), ("--force",)], ids=["first", "forced"])
def test_a_folder_that_can_not_be_made_costs_no_keys(tmp_path: Path, more: tuple[str, ...]) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    if more:
        assert certs(keys, "--host", "alpha").exit_code == 0
    (keys / "beta").touch()
    before = files(keys)
    run = certs(keys, "--host", "alpha", "--host", "beta", *more)
    assert run.exit_code == 2, run.stderr
    assert run.complaint == f"pageferry: DIR: can't write to {keys}/beta: Not a directory"
    assert files(keys) == before


def test_a_full_disk_leaves_no_half_of_a_set(tmp_path: Path) -> None:
    """No file may be larger than 512 bytes: the CA's key is made, its certificate is not."""
    run = ulimited("-f 1", "certs", str(tmp_path / "keys"))
    assert run.exit_code == 2, run.stderr
    assert run.lines == [f"pageferry: can't write {tmp_path}/keys/ca-cert.pem: File too large"]
    assert files(tmp_path / "keys") == {}


@pytest.mark.parametrize(
    "harm",
    ["no key", "no certificate", "another key", "no CA", "expired", "garbage", "readable"],
)
def test_a_ca_that_cannot_sign(tmp_path: Path, harm: str) -> None:
    keys, other = tmp_path / "keys", tmp_path / "other"
    certs(keys, "--host", "alpha")
    certs(other, "--host", "alpha")
    if harm == "no key":
        (keys / "ca-key.pem").unlink()
    elif harm == "no certificate":
        (keys / "ca-cert.pem").unlink()
    elif harm == "another key":
        (keys / "ca-key.pem").write_bytes((other / "ca-key.pem").read_bytes())
    elif harm == "no CA":
        (keys / "ca-key.pem").write_bytes((keys / "alpha/server-key.pem").read_bytes())
        (keys / "ca-cert.pem").write_bytes((keys / "alpha/server-cert.pem").read_bytes())
    elif harm == "garbage":
        (keys / "ca-key.pem").write_bytes(b"\x00no key")
    elif harm == "readable":
        (keys / "ca-key.pem").chmod(0o644)
    else:
        expire(keys)
    before = files(keys)
    run = certs(keys, "--host", "beta")
    assert run.exit_code == 2, run.stderr
    assert run.lines == [run.complaint]
    assert files(keys) == before


def expire(keys: Path) -> None:
    """The CA in there has been one until yesterday."""
    from cryptography.hazmat.primitives import hashes, serialization

    key = serialization.load_pem_private_key((keys / "ca-key.pem").read_bytes(), None)
    old = x509.load_pem_x509_certificate((keys / "ca-cert.pem").read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(old.subject).issuer_name(old.issuer)
    builder = builder.public_key(old.public_key()).serial_number(old.serial_number)
    builder = builder.not_valid_before(now - 9 * DAY).not_valid_after(now - DAY)
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    (keys / "ca-cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))


# -- out of their time -----------------------------------------------------------------------------


def issued(folder: Path, begin_days: int, end_days: int) -> Path:
    """Credentials of this host that are valid from and until so many days from now."""
    authority = trustme.CA()
    now = datetime.datetime.now(datetime.UTC)
    one = authority.issue_cert(
        "127.0.0.1", not_before=now + begin_days * DAY, not_after=now + end_days * DAY
    )
    folder.mkdir()
    authority.cert_pem.write_to_path(folder / "ca-cert.pem")
    for role in ("server", "client"):
        one.cert_chain_pems[0].write_to_path(folder / f"{role}-cert.pem")
        one.private_key_pem.write_to_path(folder / f"{role}-key.pem")
        (folder / f"{role}-key.pem").chmod(0o600)
    return folder


class running:  # noqa: N801 - reads as a statement
    """A long-lived command until it listens: its port, and what it has said by then."""

    def __init__(self, *arguments: str) -> None:
        words = command(*arguments[:1], "--listen", "127.0.0.1:0", *arguments[1:])
        self._process = subprocess.Popen(
            words,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=environment(),
            cwd=CHECKOUT,
        )

    def __enter__(self) -> tuple[int, str]:
        assert self._process.stderr is not None
        said, deadline = "", time.monotonic() + RUN_S
        while "listening on" not in said:
            line = self._process.stderr.readline()
            assert line, said
            assert time.monotonic() < deadline
            said += line
        port = said.partition("listening on 127.0.0.1:")[2].split(",")[0].split()[0]
        return int(port), said

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=RUN_S)


TIMES = [
    pytest.param(-60, -1, "expired on ", id="expired"),
    pytest.param(2, 60, "is not valid before ", id="not-yet"),
]


@pytest.mark.parametrize(("begin", "end", "words"), TIMES)
@pytest.mark.parametrize("agent", ["dest", "host"])
def test_said_where_it_listens(
    tmp_path: Path, agent: str, begin: int, end: int, words: str
) -> None:
    folder = issued(tmp_path / "keys", begin, end)
    with running(agent, "--tls", str(folder)) as (_, said):
        lines = [line for line in said.splitlines() if "server-cert.pem" in line]
        assert len(lines) == 1, said
        assert words in lines[0]
        assert "others will not accept it" in lines[0]
        when = datetime.datetime.now(datetime.UTC) + (end if end < 0 else begin) * DAY
        assert f"{when:%Y-%m-%d}" in lines[0]


@pytest.mark.parametrize(("begin", "end", "words"), TIMES)
def test_said_by_a_source(tmp_path: Path, begin: int, end: int, words: str) -> None:
    folder = issued(tmp_path / "keys", begin, end)
    run = pageferry("source", "--to", "127.0.0.1:1", "--tls", str(folder), *SMALL)
    assert run.exit_code == 1
    found = [line for line in run.lines if "client-cert.pem" in line]
    assert len(found) == 1, run.stderr
    assert words in found[0]


def test_credentials_in_their_time_are_not_talked_about(tmp_path: Path) -> None:
    folder = issued(tmp_path / "keys", -1, 2)
    with running("dest", "--tls", str(folder)) as (_, said):
        assert "cert.pem" not in said


@pytest.mark.parametrize("text", ["x y", "[beta]", ".beta", "beta:4444", "*.lab.example", "a..b"])
def test_a_name_that_no_certificate_has_is_not_looked_for(tmp_path: Path, text: str) -> None:
    folder = issued(tmp_path / "keys", -1, 2)
    to = ("source", "--to", "127.0.0.1:1", "--tls", str(folder), *SMALL)
    run = pageferry(*to, f"--tls-hostname={text}")
    assert run.exit_code == 2, run.stderr
    assert run.complaint.startswith("pageferry: --tls-hostname")
