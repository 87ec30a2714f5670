"""The `pageferry` command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from common.start import start

if TYPE_CHECKING:
    from cyclopts import App

_HELP = """A live-migration laboratory: real guest memory, real TCP, measured downtime.

SIZEs are written as 512MiB or 4GiB, RATEs as 100MB/s, 800mbit or unlimited, TIMEs as 300ms or 2s,
SHAREs as 10% or 0.1.

Exit codes: 0 done and verified; 1 the migration failed and the guest goes on at the source;
2 bad usage or bad input; 3 verification failed; 4 in doubt; 130 cancelled.
"""


def make_app() -> App:
    """All commands."""
    from cyclopts import App

    from common import __version__
    from dest_agent.cli import dest
    from lab.certs import certs
    from lab.compare import compare
    from lab.host_cli import host_app
    from lab.inject import make_inject
    from lab.migrate import migrate
    from lab.model import model
    from lab.move import move
    from lab.net.cli import make_net_app
    from lab.predict import predict
    from lab.report import report
    from lab.reproduce import reproduce
    from lab.simulate import simulate
    from lab.sweep.cli import sweep_app
    from lab.trace import make_trace_app
    from source_agent.cli import source

    app = App(name="pageferry", help=_HELP, version=__version__)
    app.command(migrate)
    app.command(source)
    app.command(dest)
    app.command(compare)
    app.command(model)
    app.command(certs)
    app.command(reproduce)
    app.command(host_app)
    app.command(move)
    app.command(make_net_app())
    app.command(predict)
    app.command(make_trace_app())
    app.command(sweep_app)
    app.command(report)
    app.command(make_inject())
    app.command(simulate)
    return app


def _run() -> int:
    from common.cli import run_app

    return run_app(make_app(), sys.argv[1:])


def main() -> None:
    """The console script."""
    sys.exit(start(_run))


if __name__ == "__main__":
    main()
