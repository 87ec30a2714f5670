"""What a person hands over, or names for results: said in one line, before anything has begun."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.support.command_line import SMALL, pageferry
from tests.support.every_report import completed

LONG = "n" * 300


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("migrate", "--json", LONG), "--json: can't write .*File name too long"),
        (("migrate", "--html", LONG), "--html: can't write .*File name too long"),
        (("migrate", "--log-dir", f"new/{LONG}"), "--log-dir: .*File name too long"),
        (("migrate", "--json", "."), "--json: can't write .*Is a directory"),
        (("compare", "--log-dir", "file/logs"), "--log-dir: .*Not a directory"),
        (("source", "--to", "127.0.0.1:1", "--json", LONG), "--json: .*File name too long"),
        (("sweep", "plan.toml", "--output", LONG), "File name too long"),
        (
            ("sweep", "plan.toml", "--runner", "migrate", "--log-dir", "file"),
            "--log-dir: .*Not a directory",
        ),
        (("report", "r.json", "--html", LONG), "--html: .*File name too long"),
        (("report", "r.json", "--pictures", "file"), "--pictures: .*Not a directory"),
        (("certs", LONG), "can't write .*File name too long"),
        (("certs", "file"), "can't write .*"),
        (("migrate", "--json", "pipe"), "--json: can't write pipe: a pipe that nobody has begun"),
        (("migrate", "--html", "pipe"), "--html: can't write pipe: a pipe that nobody has begun"),
        (("simulate", "--json", "pipe"), "--json: can't write pipe: a pipe that nobody has begun"),
        (("report", "pipe"), "pipe can't be read: a pipe: expected a file"),
        (("report", "/dev/zero"), "/dev/zero can't be read: a device: expected a file"),
        (("sweep", "pipe"), "pipe can't be read: a pipe: expected a file"),
        (("simulate", "--evacuate", "2", "--fleet", "pipe"), "--fleet: pipe can't be read: a pipe"),
        (("simulate", "--from", "pipe"), "pipe can't be read: a pipe"),
        (("trace", "info", "pipe"), "pipe.* can't be read: not a regular file"),
        (("migrate", "--tls", "keys"), "can't read ca-cert.pem: a pipe: expected a file"),
        (("report", "deep.json"), "deep.json: config.a.*: nested too deep"),
        (("report", "pair.json", "--html", "new.html"), "pair.json: error: .*surrogate pair"),
        (("report", "inject.json"), "inject.json: config.inject: 1: expected a list"),
    ],
    ids=lambda value: " ".join(value).replace(LONG, "LONG") if isinstance(value, tuple) else "",
)
def test_one_line_and_nothing_is_left(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    whole = json.loads(completed().to_json())
    deep = whole | {"config": {"a": json.loads("[" * 900 + "]" * 900)}}
    made = {"r": whole, "deep": deep, "pair": whole | {"error": "\ud800"}}
    made["inject"] = whole | {"config": whole["config"] | {"inject": 1}}
    for name, document in made.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    (tmp_path / "plan.toml").write_text('runner = "simulate"\n[grid]\ncache = [0, "4MiB"]\n')
    (tmp_path / "file").touch()
    (tmp_path / "keys").mkdir()
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "keys" / "ca-cert.pem")
    before = sorted(tmp_path.rglob("*"))
    small = SMALL if arguments[0] in ("migrate", "compare", "source") else ()
    run = pageferry(*arguments, *small, cwd=tmp_path, timeout=60)
    assert run.exit_code == 2, run
    assert len(run.lines) == 1, run.stderr
    assert re.search(said, run.complaint), run.complaint
    assert len(run.complaint) < 700
    assert sorted(tmp_path.rglob("*")) == before
