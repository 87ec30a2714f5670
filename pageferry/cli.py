"""The `pageferry` command."""

import os
import sys

# `python -m` has put the current folder first on `sys.path`, before our own code. It is taken off
# again before anything can be imported from it, unless it is the folder that this code is in.
if __name__ == "__main__" and not sys.flags.safe_path:
    if sys.path[0] != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
        del sys.path[0]

from importlib import import_module

from pageferry.common.process.entry import start

TYPE_CHECKING = False  # nothing that takes long to import comes before `start`
if TYPE_CHECKING:
    from cyclopts import App

_HELP = """A live-migration laboratory: real guest memory, real TCP, measured downtime.

SIZEs are written as 512MiB or 4GiB, RATEs as 100MB/s, 800mbit or unlimited, TIMEs as 300ms or 2s,
SHAREs as 10% or 0.1.

Exit codes: 0 done and verified; 1 the migration failed and the guest goes on at the source;
2 bad usage or bad input; 3 verification failed; 4 the guest is lost, or in doubt; 5 a limit
was missed and --enforce was given; 130 cancelled, the guest goes on at the source.
"""

COMMANDS = {
    "migrate": "pageferry.commands.migrate:migrate",
    "source": "pageferry.source_agent.cli:source",
    "dest": "pageferry.dest_agent.cli:dest",
    "compare": "pageferry.commands.compare:compare",
    "model": "pageferry.commands.model:model",
    "certs": "pageferry.commands.certs:certs",
    "reproduce": "pageferry.commands.reproduce:reproduce",
    "host": "pageferry.commands.host:host_app",
    "move": "pageferry.commands.move:move",
    "net": "pageferry.commands.net:net_app",
    "predict": "pageferry.commands.predict:predict",
    "trace": "pageferry.commands.trace:trace_app",
    "workload": "pageferry.commands.workload:workload_app",
    "sweep": "pageferry.commands.sweep:sweep_app",
    "report": "pageferry.commands.report:report",
    "inject": "pageferry.commands.inject:inject_app",
    "simulate": "pageferry.commands.simulate:simulate",
}


def make_app(command: str | None = None) -> "App":
    """Build the command-line app, with all commands or with one alone.

    With one alone, no other command's libraries are imported.

    Args:
        command: Name of the only command to add, as the user typed it; None, or a word that is no
            command, adds them all.

    Returns:
        The app; nothing has been parsed.
    """
    from cyclopts import App

    from pageferry._version import __version__

    app = App(name="pageferry", help=_HELP, version=__version__)
    for name in [command] if command in COMMANDS else COMMANDS:
        module, _, attribute = COMMANDS[name].partition(":")
        app.command(getattr(import_module(module), attribute), name=name)
    return app


def _run() -> int:
    from pageferry.common.command_line.run import run_app

    arguments = sys.argv[1:]
    return run_app(make_app(arguments[0] if arguments else None), arguments)


def main() -> None:
    """Run the command that `sys.argv` names, and exit with its exit code.

    Raises:
        SystemExit: Always; with 0 where all is well.
    """
    sys.exit(start(_run))


if __name__ == "__main__":
    main()
