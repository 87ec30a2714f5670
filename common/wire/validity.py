"""Whether credentials are valid today: said where they are loaded, before a peer refuses them."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any


def out_of_time(
    context: ssl.SSLContext, authority: str, certificate: str, name: str
) -> Iterator[str]:
    """Find what is expired or not valid yet, so that no peer whose clock is right will accept it.

    It is for peers to refuse: it may be this host's clock that is wrong.

    Args:
        context: Has the CAs' certificates loaded.
        authority: What messages call their file.
        certificate: Path of our own certificate's file.
        name: What messages call that.

    Yields:
        One line for people on each.
    """
    with contextlib.suppress(AttributeError, ssl.SSLError, OSError):  # private API: it may go
        decode: Any = getattr(ssl, "_ssl")._test_decode_cert  # noqa: B009 - private
        if words := _not_now(decode(certificate)):
            renew = "(pageferry certs --renew makes another one)"
            yield f"{name} {words}: others will not accept it {renew}"
    authorities = [_not_now(each) for each in context.get_ca_certs()]
    if authorities and all(authorities):
        yield f"{authority} {authorities[0]}: no certificate of it will be accepted"


def _not_now(decoded: Mapping[str, Any]) -> str | None:
    """Say what is wrong, in words that follow a certificate's name; None: it is valid now."""
    now = time.time()
    begin, end = (ssl.cert_time_to_seconds(decoded[key]) for key in ("notBefore", "notAfter"))
    if end < now:
        return f"expired on {_date(end)}"
    if begin > now:
        return f"is not valid before {_date(begin)}, and here it is {_date(now)}"
    return None


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
