"""`python -m source_agent`: the source agent alone."""

import sys

from common.start import start


def main() -> int:
    """Run the command line; returns the exit code."""
    from cyclopts import App

    from common.cli import run_app
    from source_agent.cli import source

    app = App(name="source_agent", version_flags=[])
    app.default(source)
    return run_app(app, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(start(main))
