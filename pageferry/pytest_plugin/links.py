"""`pageferry_link`: a shaped link, made of whatever this process may make one of."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import pytest

from pageferry.common.errors import PageferryError, UsageError

Kind = Literal["namespaces", "relay"]


@cache
def why_no_namespaces() -> str | None:
    """Say why this process can't make network namespaces with a link; tried once.

    Returns:
        None if it can.
    """
    from pageferry.net import namespaces

    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    name = f"probe-{os.getpid()}-{secrets.token_hex(3)}"
    try:
        namespaces.require_namespaces("a link with namespaces")
        namespaces.make(name)
    except PageferryError as error:
        return str(error)
    namespaces.remove(name)
    return None


class Link:
    """Makes the options of a shaped link, for `pageferry_migrate(**pageferry_link(...))`.

    Attributes:
        kind: What a link is made of here: `namespaces` if that is possible, which takes root; else
            `relay`, of connections, which loses no packets.
    """

    @property
    def kind(self) -> Kind:
        """What a link is made of here."""
        return "relay" if why_no_namespaces() else "namespaces"

    def __call__(self, net: str, schedule: str | Sequence[str] = ()) -> dict[str, Any]:
        """Make the options; the link itself is made for each migration, and removed after it.

        Args:
            net: As `--net` takes it: `"rate=100mbit,delay=5ms"`.
            schedule: As `--schedule` takes it: `"at 3s rate=10mbit"`; several as a sequence.

        Returns:
            `net`, `link` and, if there is one, `schedule`. The test is skipped, with the reason, if
            the link loses or reorders packets and only a relay can be made.

        Raises:
            UsageError: It is not a link.
        """
        from pageferry.net.options import NetOptions

        moments = (schedule,) if isinstance(schedule, str) else tuple(schedule)
        kind = self.kind
        options: dict[str, Any] = {"net": net, "link": kind}
        if moments:
            options["schedule"] = moments
        try:
            NetOptions(**options).asked()
        except UsageError:
            if kind == "relay":
                NetOptions(**options | {"link": "namespaces"}).asked()  # raises what is wrong
                pytest.skip(f"a relay can't be such a link: {why_no_namespaces()}")
            raise
        return options
