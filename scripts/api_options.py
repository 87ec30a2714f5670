"""`python -m scripts.api_options`: pageferry/api/options.py, of the models that make the commands.

A type checker and an editor know keywords from a `TypedDict` (PEP 692). Each field of a model is a
key: its type, text beside a number that has a unit, and its description.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic.fields import FieldInfo

from pageferry.common.command_line.options import Spec
from pageferry.common.command_line.run import LimitOptions, TlsOptions
from pageferry.common.config.guest import GuestConfig
from pageferry.common.config.model import MigrationConfig
from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.config.transfer import TransferConfig
from pageferry.net.options import NetOptions
from pageferry.runs.axes import AXES, CompareSeries
from pageferry.runs.prediction import PredictConfig
from pageferry.sim.options import SimulateOptions

FILE: Final = Path(__file__).resolve().parents[1] / "pageferry/api/options.py"
_APART: Final = frozenset({*AXES, "predict", "predict_time"})  # not the same in all functions
_PATH: Final = "str | os.PathLike[str]"
_LOG_DIR: Final = {"log_dir": (_PATH, "keep a log of every event in this folder")}

_HEAD: Final = '''\
"""Keywords of the API's functions.

Made by `python -m scripts.api_options` of the models that make the command line: change it there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypedDict
'''

Key = tuple[str, str]  # a type, and what is said of it
Keys = dict[str, Key]


def type_of(field: FieldInfo) -> str:
    """Return the type of a keyword: what pydantic takes for the field, as people would give it."""
    spec = Spec.of(field)
    names: list[str] = []
    for kind in spec.kinds:
        if typing.get_origin(kind) is Literal:
            names.append(f"Literal[{', '.join(repr(each) for each in typing.get_args(kind))}]")
        elif typing.get_origin(kind) is tuple:
            names.append("Sequence[str]")
        elif kind is Path:
            names.append(_PATH)
        else:
            names.append(kind.__name__)
    if spec.unit is not None:
        names.append("str")
    if type(None) in typing.get_args(field.annotation) or field.default is None:
        names.append("None")
    return " | ".join(dict.fromkeys(names)).replace("'", '"')


def keys_of(model: Any, *, without: typing.Collection[str] = ()) -> dict[str, Key]:
    """Return the keywords of a model."""
    return {
        name: (type_of(field), str(field.description or ""))
        for name, field in model.model_fields.items()
        if name not in without
    }


def _several(field: FieldInfo) -> Key:
    one = "str" if "Literal" in type_of(field) else type_of(field)
    either = " | ".join(dict.fromkeys([*one.split(" | "), "str"]))
    return f"{either} | Sequence[{one}]", f"{field.description}; several, or one"


def _class(name: str, base: str, about: str, keys: Mapping[str, Key]) -> str:
    lines = [f"class {name}({base}, total=False):", f'    """{about}"""', ""]
    for key, (kind, words) in keys.items():
        text = f"{words}."
        lines.append(f"    {key}: {kind}")
        wrapped = textwrap.wrap(text, 90)
        if len(wrapped) == 1:
            lines.append(f'    """{text}"""')
        else:
            lines += [f'    """{wrapped[0]}', *(f"    {line}" for line in wrapped[1:]), '    """']
    return "\n".join(lines) + "\n"


def make() -> str:
    """Return the text of the file, as ruff formats it."""
    fields = MigrationConfig.model_fields
    axes = {name: (type_of(fields[name]), str(fields[name].description)) for name in AXES}
    prediction = {name: keys_of(MigrationConfig)[name] for name in ("predict", "predict_time")}
    parts = [*_shared(), *_of_functions(axes, prediction), *_of_fixtures(axes, prediction)]
    return _formatted(_HEAD + "".join(f"\n\n{part}" for part in parts))


def _shared() -> list[str]:
    """What several functions have."""
    transfer = keys_of(TransferConfig, without=_APART | {*StrategyConfig.model_fields})
    inherited = {*GuestConfig.model_fields, *TransferConfig.model_fields}
    run = keys_of(MigrationConfig, without=_APART | inherited)
    return [
        _class("_Guest", "TypedDict", "The guest.", keys_of(GuestConfig, without=_APART)),
        _class("_Strategy", "TypedDict", "Decisions.", keys_of(StrategyConfig, without=_APART)),
        _class("_Transfer", "_Strategy", "How a guest travels.", transfer),
        _class("_Run", "_Guest, _Transfer", "What all functions have.", run),
        _class("_Net", "TypedDict", "The network.", keys_of(NetOptions)),
        _class("_Tls", "TypedDict", "Keys of connections.", keys_of(TlsOptions)),
        _class("_Limits", "TypedDict", "What becomes of limits.", keys_of(LimitOptions)),
    ]


def _of_functions(axes: Keys, prediction: Keys) -> list[str]:
    lists = {name: _several(MigrationConfig.model_fields[name]) for name in AXES}
    lists["strategies"] = lists["strategy"]
    compared = lists | keys_of(CompareSeries) | prediction | _LOG_DIR
    measured = PredictConfig.model_fields["predict_time"]
    measure = {"measure": (type_of(measured), str(measured.description))}
    simulated = keys_of(SimulateOptions, without=("evacuate", "fleet"))
    migrated = axes | prediction | _LOG_DIR
    return [
        _class("MigrateOptions", "_Run, _Net, _Tls, _Limits", "Keywords of `migrate`.", migrated),
        _class("CompareOptions", "_Run, _Net, _Limits", "Keywords of `compare`.", compared),
        _class("PredictOptions", "_Run", "Keywords of `predict`.", axes | measure),
        _class("SimulateOptions", "_Run, _Limits", "Keywords of `simulate`.", axes | simulated),
        _class("SweepOptions", "TypedDict", "Keywords of `sweep`.", _sweep()),
    ]


def _of_fixtures(axes: Keys, prediction: Keys) -> list[str]:
    moved = {name: key for name, key in axes.items() if name != "cache"}
    moved |= {name: keys_of(MigrationConfig)[name] for name in ("warmup", "run_after")}
    to_agent = "Keywords of a migration to an agent that runs."
    cache = {"cache": axes["cache"]}
    return [
        _class("GuestAndTransfer", "_Run", to_agent, axes | prediction),
        _class("GuestOptions", "_Guest", "Keywords of a guest.", cache),
        _class("TransferOptions", "_Transfer", "Keywords of a move.", moved | prediction),
    ]


def _sweep() -> dict[str, Key]:
    from pageferry.api.sweeping import SWEEP
    from pageferry.sweeps.command import SweepOptions

    return {name: key for name, key in keys_of(SweepOptions).items() if name in SWEEP}


def _formatted(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(FILE), "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    FILE.write_text(make())
