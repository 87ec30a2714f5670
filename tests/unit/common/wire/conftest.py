"""Credentials for both ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from pageferry.common.wire import tls_credentials


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    authority = trustme.CA()
    one = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / tls_credentials.CA)
    for certificate, key in (tls_credentials.SERVER, tls_credentials.CLIENT):
        one.cert_chain_pems[0].write_to_path(folder / certificate)
        one.private_key_pem.write_to_path(folder / key)
        (folder / key).chmod(0o600)
    return folder
