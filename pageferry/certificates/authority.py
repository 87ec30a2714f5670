"""A certificate authority of one key: it makes itself, is read again, and signs for hosts."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pageferry.common.files.input_files import open_file

if TYPE_CHECKING:
    from cryptography import x509

CA_DAYS: Final = 3650
HOST_DAYS: Final = 825
_MOST_BYTES: Final = 1 << 20  # of a key or a certificate
_BACK: Final = datetime.timedelta(hours=1)  # a host's clock may be slow


@dataclass(frozen=True, slots=True)
class Signer:
    """A CA.

    Attributes:
        key: Of any kind that `cryptography` can sign a certificate with.
        certificate: The CA's own.
    """

    key: Any
    certificate: x509.Certificate


def pem(certificate: x509.Certificate) -> bytes:
    """Encode a certificate as it stands in a file.

    Args:
        certificate: A host's or a CA's.

    Returns:
        PEM.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: Any) -> bytes:
    """Encode a private key as it stands in a file, which nobody else may read.

    Args:
        key: A private key of any kind that `cryptography` has.

    Returns:
        PEM of PKCS #8, not encrypted.
    """
    from cryptography.hazmat.primitives import serialization as s

    data: bytes = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    return data


def make_signer() -> Signer:
    """Make a new CA, which signs for hosts only.

    Returns:
        A P-256 key and its certificate, valid for `CA_DAYS`.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("pageferry CA")
    builder = _builder(name, name, key, CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(ca=True), critical=True)
    return Signer(key, _signed(builder, key, key.public_key()))


def read_signer(key: Path, certificate: Path) -> Signer:
    """Read a CA from its files.

    Args:
        key: PEM, not encrypted.
        certificate: PEM; it must be of this key.

    Returns:
        The CA.

    Raises:
        ValueError: It can't sign; the message says why.
        OSError: A file can't be read.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private: Any = load_pem_private_key(_read(key), None)
        own = x509.load_pem_x509_certificate(_read(certificate))
    except TypeError:
        raise ValueError(f"{key.name} is encrypted") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{key.name} and {certificate.name} are no key and certificate") from None
    if private.public_key() != own.public_key():
        raise ValueError(f"{key.name} is not the key of {certificate.name}")
    try:
        constraints = own.extensions.get_extension_for_class(x509.BasicConstraints).value
        is_authority = constraints.ca
    except (x509.ExtensionNotFound, ValueError):
        is_authority = False
    if not is_authority:
        raise ValueError(f"{certificate.name} is no certificate of a CA")
    if own.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        raise ValueError(f"{certificate.name} expired on {own.not_valid_after_utc:%Y-%m-%d}")
    return Signer(private, own)


def _read(file: Path) -> bytes:
    """Read a file. Raises `OSError`, even for one that would have to be waited for."""
    with open(open_file(file), "rb") as opened:
        return opened.read(_MOST_BYTES)


def make_host(names: Sequence[str], signer: Signer) -> tuple[bytes, bytes]:
    """Make a certificate and a key for either end of a connection.

    The certificate is valid for `HOST_DAYS`, and no longer than the CA itself.

    Args:
        names: The host's DNS names and IP addresses, as `common.wire.certificate_names` has them.
            The first one is also the subject.
        signer: The CA.

    Returns:
        Certificate and key, both PEM.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(
        _name(names[0][:64]),
        signer.certificate.subject,
        key,
        HOST_DAYS,
        signer.certificate.not_valid_after_utc,
    )
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
    return pem(_signed(builder, signer.key, signer.certificate)), key_pem(key)


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


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
    subject: x509.Name,
    issuer: x509.Name,
    key: Any,
    days: int,
    at_most: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACK)
        .not_valid_after(until if at_most is None else min(until, at_most))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder, key: Any, issuer: x509.Certificate | Any
) -> x509.Certificate:
    """Sign a certificate.

    `issuer` is the CA's certificate, or its public key where that is what is signed.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ed448, ed25519

    identifier = x509.AuthorityKeyIdentifier
    if isinstance(issuer, x509.Certificate):
        try:  # not every CA derives its identifier as we do
            own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            issuer_id = identifier.from_issuer_subject_key_identifier(own)
        except x509.ExtensionNotFound:
            issuer_id = identifier.from_issuer_public_key(key.public_key())
    else:
        issuer_id = identifier.from_issuer_public_key(issuer)
    pure = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    algorithm = None if pure else hashes.SHA256()
    return builder.add_extension(issuer_id, critical=False).sign(key, algorithm)
