"""`python -m tests.fuzz TARGET [--seconds N] [--corpus FOLDER]`: atheris drives one target.

Needs `pip install atheris`. What it finds interesting goes into the corpus folder (default: a
temporary one, begun with a copy of `tests/fuzz/corpus/TARGET`), a finding is written to a file
`crash-...` in the current folder: put it into `tests/fuzz/corpus/TARGET` when it is mended.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import atheris

# What numba compiles can't be instrumented: it and what it is made of come first.
import pageferry.common.guest.delta  # noqa: F401
from pageferry.trace.lackey import LackeyParser

with atheris.instrument_imports():
    from tests.fuzz.targets import TARGETS

for _name in ("feed", "finish", "_lines", "_pass_over", "_error"):
    setattr(LackeyParser, _name, atheris.instrument_func(getattr(LackeyParser, _name)))


CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pageferry-fuzz-") as folder:
        corpus = options.corpus or Path(folder)
        for seed in sorted((CORPUS / options.target).iterdir()):
            shutil.copy(seed, corpus)
        flags = [f"-max_total_time={options.seconds}", "-max_len=65536", "-timeout=30"]
        flags += ["-rss_limit_mb=2048", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *flags, str(corpus)], TARGETS[options.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
