"""Names in certificates: whatever is taken matches what a source looks for, in OpenSSL's eyes."""

from __future__ import annotations

import ssl
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.certificates.authority import Signer, key_pem, make_host, make_signer, pem
from pageferry.common.wire.certificate_names import certified, name_to_verify
from pageferry.common.wire.tls_credentials import client_tls, server_tls


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("beta", "beta"),
        ("Beta.EXAMPLE", "beta.example"),
        ("beta.example.", "beta.example"),
        ("my_host-1", "my_host-1"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("beta。example", "beta.example"),
        ("a" * 63, "a" * 63),
        ("10.0.0.2", "10.0.0.2"),
        ("fd00::2", "fd00::2"),
        ("[fd00::2]", "fd00::2"),
        ("FD00:0:0:0:0:0:0:2", "fd00::2"),
        ("::1", "::1"),
        ("3com.example", "3com.example"),
        ("1.2.3.example", "1.2.3.example"),
    ],
)
def test_the_one_form_of_a_name(text: str, name: str) -> None:
    assert str(certified(text)) == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" ", "blank"),
        ("x y", "blank"),
        (" beta", "blank"),
        ("beta\n", "blank"),
        ("beta\x00", "can't be printed"),
        ("be\u200bta", "can't be printed"),
        ("beta\u00a0", "blank"),
        ("beta:4444", "leave the port out, as in beta"),
        ("10.0.0.2:4444", "leave the port out, as in 10.0.0.2"),
        ("[fd00::2]:4444", "leave the port out, as in [fd00::2]"),
        ("[fd00::2", "brackets"),
        ("[fd00::2]x", "brackets"),
        ("[beta]", "brackets"),
        ("[10.0.0.2]", "brackets"),
        ("[]", "brackets"),
        ("fd00::2::1", "neither a name nor an IPv6 address"),
        ("fd00::g", "neither a name nor an IPv6 address"),
        ("beta:", "neither a name nor an IPv6 address"),
        ("fe80::1%eth0", "zone"),
        ("[fe80::1%eth0]", "zone"),
        ("0.0.0.0", "nobody connects"),  # noqa: S104
        ("::", "nobody connects"),
        ("224.0.0.1", "nobody connects"),
        ("10.0.0.256", "ends in a number"),
        ("10.0.0", "ends in a number"),
        ("010.0.0.1", "ends in a number"),
        ("1", "ends in a number"),
        ("0x7f000001", "ends in a number"),
        ("１０.0.0.2", "ends in a number"),
        ("https://beta", "scheme"),
        ("root@beta", "user"),
        ("fd00::/64", "prefix"),
        ("../beta", "path"),
        (".", "empty"),
        ("..", "empty"),
        ("a..b", "empty"),
        (".beta", "empty"),
        ("beta..", "empty"),
        ("-beta", "letters"),
        ("beta-", "letters"),
        ("be'ta", "letters"),
        ("beta;x", "letters"),
        ("beta,x", "letters"),
        ("a" * 64, "63"),
        (".".join(["a" * 60] * 5), "253 in all"),
        ("*", "as in *.lab.example"),
        ("*.example", "as in *.lab.example"),
        ("*.lab.example", "after a name"),
        ("b*.lab.example", "as in *.lab.example"),
    ],
)
def test_what_no_source_could_ask_for(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        certified(text)
    assert words in str(caught.value)


def test_a_wildcard_where_one_may_be() -> None:
    assert certified("*.lab.example", wildcard=True) == "*.lab.example"
    for text in ("*.example", "*", "b*.lab.example", "lab.*.example", "*.*.lab.example"):
        with pytest.raises(ValueError, match=r"\*|letters"):
            certified(text, wildcard=True)


class Peers:
    """Two ends of one host's credentials, in memory."""

    def __init__(self, folder: Path, signer: Signer, *names: str) -> None:
        certificate, key = make_host(names, signer)
        (folder / "ca-cert.pem").write_bytes(pem(signer.certificate))
        for role in ("server", "client"):
            (folder / f"{role}-cert.pem").write_bytes(certificate)
            (folder / f"{role}-key.pem").write_bytes(key)
            (folder / f"{role}-key.pem").chmod(0o600)
        self._client, self._server = client_tls(folder).context, server_tls(folder)

    def accept(self, host: str) -> bool:
        """Whether a source that connects to `host` takes the other end for the right one."""
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self._client.wrap_bio(back, there, server_hostname=name_to_verify(host))
        server = self._server.wrap_bio(there, back, server_side=True)
        try:
            for _ in range(4):
                for end in (client, server):
                    try:
                        end.do_handshake()
                    except ssl.SSLWantReadError:
                        continue
        except ssl.SSLCertVerificationError:
            return False
        return True


@pytest.fixture(scope="module")
def signer() -> Signer:
    return make_signer()


ALPHABET = string.ascii_letters + string.digits + "-_.*:[]%/@ üßé。１"
NAMES = st.one_of(
    st.text(ALPHABET, max_size=12),
    st.lists(st.text(string.ascii_letters + "-ü_", min_size=1, max_size=8), max_size=4).map(
        ".".join
    ),
    st.ip_addresses().map(str),
    st.ip_addresses(v=6).map("[{}]".format),
)


@given(NAMES)
def test_what_is_taken_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, signer: Signer, text: str
) -> None:
    try:
        name = str(certified(text))
    except ValueError:
        return
    peers = Peers(tmp_path_factory.mktemp("peers"), signer, name)
    assert peers.accept(text)
    assert peers.accept(name)
    assert not peers.accept("other.example")


@pytest.mark.parametrize(
    ("host", "right"),
    [
        ("beta.example", True),
        ("BETA.example.", True),
        ("fe80::1%eth0", True),
        ("[fe80::1]", True),
        ("one.lab.example", True),
        ("lab.example", False),
        ("two.one.lab.example", False),
        ("xbeta.example", False),
    ],
)
def test_what_a_source_connects_to(tmp_path: Path, signer: Signer, host: str, right: bool) -> None:
    peers = Peers(tmp_path, signer, "beta.example", "fe80::1", "*.lab.example")
    assert peers.accept(host) is right


def test_a_key_is_not_encrypted(signer: Signer) -> None:
    assert key_pem(signer.key).startswith(b"-----BEGIN PRIVATE KEY-----")
