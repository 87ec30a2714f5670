"""A user without privileges: what is run as one."""

from __future__ import annotations

import os
import shutil
from typing import Final

import pytest

NOBODY: Final = 65534


def as_nobody() -> list[str]:
    """What gives up every privilege; nothing where the tests run without any.

    One stays: to read files that are closed to others, for an interpreter in somebody's home. It
    opens neither /dev/userfaultfd, which has to be written to, nor the privileged system call.
    """
    if os.getuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed: cannot give up privileges")
    return [
        *("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"),
        *("--bounding-set", "-all,+dac_read_search", "--inh-caps", "-all,+dac_read_search"),
        *("--ambient-caps", "+dac_read_search", "--no-new-privs"),
    ]
