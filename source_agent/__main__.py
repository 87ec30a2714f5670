"""`python -m pageferry.source_agent`: the source agent alone."""

import os
import sys

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# `python -m` has put the current folder before all that there is to import, our own code too. It is
# left out again, before anything can come from it, unless it is where this code is.
if __name__ == "__main__" and not sys.flags.safe_path:
    if sys.path[0] != os.path.dirname(_PACKAGE):
        del sys.path[0]

from pageferry.common.process.entry import start


def main() -> int:
    """Run the command line; returns the exit code."""
    from cyclopts import App

    from pageferry.common.command_line.run import run_app
    from pageferry.source_agent.cli import source

    app = App(name="source_agent", version_flags=[])
    app.default(source)
    return run_app(app, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(start(main))
