"""`python -m pageferry.dest_agent`: the destination agent alone."""

import os
import sys

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# `python -m` has put the current folder at the head of the import path, before our own code too.
# It is removed before anything can be imported from it, unless this code is what lies there.
if __name__ == "__main__" and not sys.flags.safe_path:
    if sys.path[0] != os.path.dirname(_PACKAGE):
        del sys.path[0]

from pageferry.common.process.entry import start


def main() -> int:
    """Run the agent with this process's command line.

    Returns:
        The exit code.
    """
    from cyclopts import App

    from pageferry.common.command_line.run import run_app
    from pageferry.dest_agent.cli import dest

    app = App(name="dest_agent", version_flags=[])
    app.default(dest)
    return run_app(app, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(start(main))
