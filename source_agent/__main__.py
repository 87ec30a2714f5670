"""The source agent alone: `python -m pageferry.source_agent`."""

import os
import sys

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# `python -m` has put the current folder first on the import path, before our own code. Take it out
# again before anything is imported from there, unless this code is there.
if __name__ == "__main__" and not sys.flags.safe_path:
    if sys.path[0] != os.path.dirname(_PACKAGE):
        del sys.path[0]

from pageferry.common.process.entry import start


def main() -> int:
    """Run the command line.

    Returns:
        The exit code of the process.
    """
    from cyclopts import App

    from pageferry.common.command_line.run import run_app
    from pageferry.source_agent.cli import source

    app = App(name="source_agent", version_flags=[])
    app.default(source)
    return run_app(app, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(start(main))
