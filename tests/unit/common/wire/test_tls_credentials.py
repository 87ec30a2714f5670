"""Credentials that can't be used are named, and nothing is waited for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pageferry.common.errors import UsageError
from pageferry.common.wire.tls_credentials import client_tls

DAMAGED = {"empty": b"", "half": None, "text": b"hello\n", "zeros": bytes(100)}


@pytest.mark.parametrize("file", ["ca-cert.pem", "client-cert.pem", "client-key.pem"])
@pytest.mark.parametrize("how", DAMAGED)
def test_credentials_that_are_damaged(file: str, how: str, folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folder, tmp_path / "keys")
    data = (folder / file).read_bytes()
    content = DAMAGED[how]
    (folder / file).write_bytes(data[: len(data) // 2] if content is None else content)
    with pytest.raises(UsageError, match="do not make credentials: ") as caught:
        client_tls(folder)
    assert not str(caught.value).endswith("None")
    assert "_ssl.c" not in str(caught.value)


@pytest.mark.parametrize("file", ["ca-cert.pem", "client-cert.pem", "client-key.pem"])
def test_a_pipe_is_not_waited_for(file: str, folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folder, tmp_path / "keys")
    (folder / file).unlink()
    os.mkfifo(folder / file, 0o600)
    with pytest.raises(UsageError, match=f"can't read {file}: a pipe: expected a file"):
        client_tls(folder)
