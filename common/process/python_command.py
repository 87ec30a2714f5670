"""How a Python process of ours is started: never with the current folder to import from.

`python -m` puts the current folder before everything else on `sys.path`, so a `random.py` of
somebody who works there would be run in place of the library's: by every agent, and as root by the
process that keeps a network. `-P` (3.11) leaves it out. It holds for that one process, unlike
PYTHONSAFEPATH, which a user's own programs would inherit. PYTHONPATH is for users to set, and stays
as it is.
"""

from __future__ import annotations

import contextlib
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

# The folder that our package is in. Not `resolve` first: in a checkout, this folder is a link.
ROOT: Final = os.path.realpath(Path(__file__).absolute().parents[3])

# A checkout that is not installed is found only because somebody works in it: a process that is
# started from there is told where it is, behind everything else on the path.
_FROM_CHECKOUT: Final = (
    "import sys; sys.path.append(sys.argv.pop(1)); import runpy;"
    " runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def python_command(module: str, *arguments: str) -> list[str]:
    """Write the command that runs a module of ours in a process of its own.

    Args:
        module: Its name; it is run as `__main__`.
        *arguments: Its command line.

    Returns:
        Words for `subprocess`, this interpreter first.
    """
    package = module.partition(".")[0]
    ours = ["-m", module] if _found_anywhere(package) else ["-c", _FROM_CHECKOUT, ROOT, module]
    return [sys.executable, "-P", *ours, *arguments]


def _found_anywhere(package: str) -> bool:
    """Tell whether this package of ours is on the path whatever the current folder is.

    An editable installation offers `pageferry` alone, and not what lies beside it in the checkout.
    """
    path = list(sys.path)
    with contextlib.suppress(FileNotFoundError):  # a folder that has been removed
        if not sys.flags.safe_path and path[0] == os.getcwd():
            del path[0]
    found = PathFinder.find_spec(package, path)
    for finder in sys.meta_path:  # an editable installation has a finder of its own
        if finder is not PathFinder:
            found = finder.find_spec(package, None) or found
    return found is not None and os.path.realpath(found.origin or "") == os.path.join(
        ROOT, package, "__init__.py"
    )
