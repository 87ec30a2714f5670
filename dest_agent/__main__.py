"""`python -m dest_agent`: the destination agent alone."""

import sys

from common.start import start


def main() -> int:
    """Run the command line; returns the exit code."""
    from cyclopts import App

    from common.cli import run_app
    from dest_agent.cli import dest

    app = App(name="dest_agent", version_flags=[])
    app.default(dest)
    return run_app(app, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(start(main))
