"""Several commands, each in a fork of one process that has loaded the command line for them.

For what a process finds as it is loaded, such as variables that a library reads then: it is loaded
anew once, and not for each command. With --full it is for each.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.command_line import PYTHON, Run, command, environment, run_words
from tests.support.tiers import FULL

_CODE = """
import json, os, runpy, sys
import pageferry.common.guest.machine, pageferry.pair
from pageferry.cli import make_app
make_app()
folder, commands, hidden = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
codes = []
for number, words in enumerate(commands):
    child = os.fork()
    if child == 0:
        for stream in (1, 2):
            file = os.open(f"{folder}/{number}.{stream}", os.O_WRONLY | os.O_CREAT)
            os.dup2(file, stream)
            os.close(file)
        for name in hidden[number : number + 1]:
            sys.modules[name] = None
        sys.argv = ["pageferry", *words]
        del sys.modules["pageferry.cli"]
        runpy.run_module("pageferry.cli", run_name="__main__", alter_sys=True)
        sys.exit()
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


def run_each(
    commands: Sequence[Sequence[str]], cwd: Path, hidden: Sequence[str] = (), **more: str
) -> list[Run]:
    """All of them, to their ends.

    hidden: for each command a module that it does not find. more: of the environment.
    """
    if FULL and not hidden:
        return [run_words(command(*each), cwd=cwd, env=environment(**more)) for each in commands]
    with tempfile.TemporaryDirectory() as name:
        words = [PYTHON, "-P", "-c", _CODE, name, json.dumps(commands), json.dumps(hidden)]
        done = run_words(words, cwd=cwd, env=environment(**more))
        assert done.exit_code == 0, done.stderr
        return [
            Run(code, *((Path(name) / f"{number}.{stream}").read_text() for stream in (1, 2)))
            for number, code in enumerate(json.loads(done.stdout))
        ]
