"""`pageferry certs`: a CA, and a folder of credentials a host, for mutual TLS."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from common.errors import EXIT_OK, UsageError
from common.libraries import require

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA_DAYS: Final = 3650
HOST_DAYS: Final = 825
_BACK: Final = datetime.timedelta(hours=1)  # a host's clock may be slow
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_CA_KEY: Final = "ca-key.pem"


@dataclass(frozen=True, slots=True)
class _Signer:
    key: EllipticCurvePrivateKey
    certificate: x509.Certificate


def certs(
    folder: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    host: Annotated[list[str] | None, Parameter(negative="")] = None,
    force: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Make a CA and credentials of two hosts, for --tls.

    Without --host the folders are `source` and `dest`, and good for this machine (localhost). Each
    holds certificates for either end under the names that QEMU uses, and can be given as --tls DIR.

    Parameters
    ----------
    folder
        Where the folders are made; the CA's own key stays here.
    host
        NAME[,NAME|IP...]: a host, as others call it. A folder each, with the first of its names.
    force
        Replace what is there.
    """
    require("pageferry certs", "cryptography")
    hosts = [_names(text) for text in host or []]
    named = {names[0]: names for names in hosts}
    if len(named) < len(hosts):
        raise UsageError("--host: the first name of each must be another one")
    named = named or {"source": ("source", *_LOCAL), "dest": ("dest", *_LOCAL)}
    try:
        _make(folder, named, force)
    except OSError as error:
        raise UsageError(f"can't write {error.filename}: {error.strerror}") from None
    _explain(folder, named)
    return EXIT_OK


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    first = names[0]
    if not all(names) or first != Path(first).name or first in (".", ".."):
        raise UsageError(f"--host {text!r}: expected NAME[,NAME|IP...]")
    for name in names:
        _alternative(name)  # raises, before anything has been written
    return names


def _make(folder: Path, hosts: dict[str, tuple[str, ...]], force: bool) -> None:
    from common.wire.tls import CA, CLIENT, SERVER

    files = [folder / _CA_KEY, folder / CA]
    for name in hosts:
        files += [folder / name / file for file in (CA, *SERVER, *CLIENT)]
    there = [path for path in files if path.exists() or path.is_symlink()]
    if there and not force:
        raise UsageError(f"{there[0]} is there already: another DIR, or --force to replace it")
    signer = _make_ca()
    for path in there:
        path.unlink()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(folder / _CA_KEY, _key_pem(signer.key), private=True)
    _write(folder / CA, _pem(signer.certificate))
    for name, names in hosts.items():
        (folder / name).mkdir(mode=0o700, exist_ok=True)
        _write(folder / name / CA, _pem(signer.certificate))
        certificate, key = _make_host(names, signer)
        for file, key_file in (SERVER, CLIENT):
            _write(folder / name / file, certificate)
            _write(folder / name / key_file, key, private=True)


def _write(path: Path, data: bytes, *, private: bool = False) -> None:
    """A new file: one that somebody else has put there is not written to."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    with open(fd, "wb") as file:
        file.write(data)


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())


def _make_ca() -> _Signer:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("pageferry CA")
    builder = _builder(name, name, key, CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(ca=True), critical=True)
    return _Signer(key, _signed(builder, key))


def _make_host(names: Sequence[str], signer: _Signer) -> tuple[bytes, bytes]:
    """Certificate and key, for either end of a connection; PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(names[0][:64]), signer.certificate.subject, key, HOST_DAYS)
    purposes = x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    constraints = x509.BasicConstraints(ca=False, path_length=None)
    builder = (
        builder.add_extension(constraints, critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(purposes, critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
        )
    )
    return _pem(_signed(builder, signer.key)), _key_pem(key)


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name.encode("idna").decode("ascii"))
    except UnicodeError:
        raise UsageError(f"--host: {name!r} is no name of a host") from None


def _usage(*, ca: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACK)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, signer: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return builder.add_extension(identifier, critical=False).sign(signer, hashes.SHA256())


def _explain(folder: Path, hosts: dict[str, tuple[str, ...]]) -> None:
    print(f"CA: {folder}/{_CA_KEY} makes further hosts' certificates: keep it, and copy it nowhere")
    for name, names in hosts.items():
        print(f"{folder / name}: for the host that is called {', '.join(names)}")
    print(
        "Copy each folder to its host (scp -rp), and give it there:\n"
        "  pageferry dest --listen HOST:PORT --tls DIR\n"
        "  pageferry source --to HOST:PORT --tls DIR"
    )
