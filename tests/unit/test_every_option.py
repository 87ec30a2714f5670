"""Every option of every command, and every key of every option's own syntax, given what is wrong.

Whatever is refused is refused in one form: what is wrong, where, and what was expected, in words
that are not those of the libraries that have found it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App, CycloptsError
from pydantic import BaseModel, ValidationError

from pageferry.cli import make_app
from pageferry.common.command_line.field_spec import FieldSpec, kinds_of
from pageferry.common.command_line.run import run_app, worded
from pageferry.common.workload.registry import WORKLOADS
from pageferry.net.shape import KEYS
from tests.support.tiers import FULL

LIBRARY = re.compile(
    r"Input should|[Vv]alidation error|Value error|errors\.pydantic|type=|input_value|coerc"
    r"|unable to|Unused Tokens|requires an argument|Unknown option:|Invalid value|Parameter \"?-"
    r"|String should|Field required|Extra inputs|valid (?:integer|number|string|boolean)|Traceback"
)
OF_ANY_TYPE = (
    "", "-1", "0", "1.5", "nonsense", "nan", "inf", "9" * 30, "1e999", "10gbps", "10G", "0x10",
    "5 fortnights", "101%", "100%", "0%", "1", "64", "0s", "99h", "1kbit", "1e30GB/s", "B",
    "\N{SNOWMAN}",
)  # fmt: skip
FEW = ("", "nonsense", "-1")  # where cyclopts has to be asked, which takes its time
NEEDED = {
    ("source",): ["--to=127.0.0.1:1"],
    ("move",): ["--to=127.0.0.1:1"],
    ("dest",): ["--listen=127.0.0.1:0"],
    ("certs",): ["x"],
    ("trace", "import"): ["x", "y"],
    ("trace", "info"): ["x"],
    ("sweep",): ["x"],
    ("sweep", "show"): ["x"],
    ("report",): ["x", "--html=y"],
    ("workload", "show"): ["idle"],
}


def commands(app: App, chain: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in app:
        if not name.startswith("-"):
            yield (*chain, name), app[name]
            yield from commands(app[name], (*chain, name))


@dataclass(frozen=True)
class Option:
    """model: whose field `key` it is; None: the command takes it by itself."""

    chain: tuple[str, ...]
    name: str
    annotation: Any
    hint: Any
    model: type[BaseModel] | None
    key: str

    @property
    def spec(self) -> FieldSpec:
        return FieldSpec.of_type(self.annotation)

    def __str__(self) -> str:
        return " ".join((*self.chain, self.name))


def options(chain: tuple[str, ...], app: App) -> Iterator[Option]:
    model: Any = None
    for each in app.assemble_argument_collection():
        if not each.parse:
            continue
        if each.keys == ():
            found = [kind for kind in kinds_of(each.hint) if isinstance(kind, type)]
            model = next((kind for kind in found if issubclass(kind, BaseModel)), None)
        if each.name.startswith("--"):
            inside = model if each.keys else None
            key = each.keys[0] if each.keys else ""
            yield Option(chain, each.name, each.field_info.annotation, each.hint, inside, key)


APP = make_app()
OPTIONS = [
    option
    for chain, app in commands(APP)
    if app.default_command is not None
    for option in options(chain, app)
]
# One command stands for those that share an option's type: all parse the same way.
DISTINCT = list({(each.name, str(each.annotation)): each for each in OPTIONS}.values())


def refusal(option: Option, value: str | None) -> str | None:
    """What is said of this value, None: of none at all; None: it is taken. Nothing is run."""
    try:
        if option.model is not None and option.hint is not bool and value is not None:
            option.model.model_validate({option.key: value})
            return None
        given = option.name if value is None else f"{option.name}={value}"
        APP.parse_args(
            [*option.chain, *NEEDED.get(option.chain, []), given],
            exit_on_error=False,
            print_error=False,
        )
    except (ValidationError, CycloptsError) as error:
        return worded(error)
    return None


def check(said: str, option: str) -> None:
    assert not LIBRARY.search(said), said
    assert option in said, said
    assert re.search("expected|did you mean", said), said
    assert len(said) < 600, said
    assert "\n" not in said, said


@pytest.mark.parametrize("option", DISTINCT, ids=str)
def test_what_is_wrong_with_any_option_is_said_in_our_words(option: Option) -> None:
    by_parsing = option.model is None or option.hint is bool
    for value in FEW if by_parsing else OF_ANY_TYPE:
        said = refusal(option, value)
        if said is not None and said.startswith("--") and ": " in said:
            check(said, option.name)
        elif said is not None:  # of several options together: the geometry of a guest
            assert not LIBRARY.search(said), said
    if option.hint is not bool:
        said = refusal(option, None)
        assert said is not None
        check(said, option.name)


BOUNDED = [each for each in DISTINCT if each.spec.range]


def outside(spec: FieldSpec) -> Iterator[str]:
    """Values below and above the range, as a person would write them."""
    low = spec.least if spec.above is None else spec.above
    high = spec.most if spec.below is None else spec.below
    if low is not None and low > 0:
        below = low / 2 if spec.unit else low - 1
        yield spec.written(low if spec.above is not None else below)
    if high is not None:
        yield spec.written(high if spec.below is not None else 2 * high)


def test_there_are_options_with_bounds() -> None:
    assert len(BOUNDED) > 60


@pytest.mark.parametrize("option", BOUNDED, ids=str)
def test_a_value_out_of_range_is_answered_with_the_range(option: Option) -> None:
    for value in outside(option.spec):
        said = refusal(option, value)
        assert said is not None, f"{value} is taken"
        check(said, option.name)
        assert option.spec.range in said or "expected 0 to 100%" in said, said


RATES = [each for each in OPTIONS if each.spec.unit and each.spec.unit.noun == "a rate"]


@pytest.mark.parametrize("option", RATES, ids=str)
def test_zero_and_what_has_two_readings_is_no_rate(option: Option) -> None:
    unlimited = refusal(option, "unlimited") is None
    for value in ("0", "0mbit", "0GB/s"):
        said = refusal(option, value)
        assert said is not None
        assert ("unlimited" in said) == unlimited, said
    for value in ("10gbps", "10Gbps", "10G", "10g"):
        said = refusal(option, value)
        assert said is not None
        assert "10GB/s" in said
        assert "10gbit" in said


WRONG_VALUES = ("-1", "nonsense", "9" * 30, "1e999")
EMPTY_TOO = ("", *WRONG_VALUES)
NET = tuple(f"{key}={value}" for key in (*KEYS, "rtt") for value in EMPTY_TOO)
BARE = tuple(f"{key}=0.1" for key in ("loss", "reorder", "loss-back", "reorder-back"))
SAMPLES = {"mss": "63B", "window": "1B", "loss": "1", "delay": "10m", "rate": "1kbit", "rtt": "1h"}
LINK = tuple(f"{key}={each}" for key, value in SAMPLES.items() for each in (value, *EMPTY_TOO))
PAIRS = ("dely=5ms", "rate", "5ms", "loss", "=", "rate=1mbit,rate=1mbit", "rtt=1ms,delay=1ms")
RELAY = ("migrate", "--link", "relay", "--schedule")
SIMULATE = ("simulate", "--max-bandwidth", "1MB/s")

# A command line that ends with an option, what its complaint must name, and the option's texts.
SYNTAXES: list[tuple[tuple[str, ...], str, tuple[str, ...]]] = [
    (("migrate", "--net"), "--net", NET + PAIRS),
    (("compare", "--net"), "--net", NET),
    (RELAY, "--schedule", tuple(f"at 1s {text}" for text in NET + BARE)),
    (("migrate", "--net"), "0.1% or 10%", BARE),
    (RELAY, "--schedule", ("3s", "at", "at x rate=1mbit", "at -1s rate=1mbit", "at 1s outage=x")),
    (("simulate", "--link"), "--link", LINK + PAIRS),
    (
        ("migrate", "--postcopy-after"),
        "--postcopy-after",
        ("round=2", "rounds", "rounds=-1", "rounds=1.5", "rounds=1001", "time=5", "stal", ""),
    ),
    (("migrate", "--prepage"), "--prepage", ("-1", "65536", "1.5", "adaptiv", "")),
    (
        ("migrate", "--inject"),
        "--inject",
        (
            *("", "x", "conected:kill", "source/asked:cut", "connected", "connected:"),
            *("connected:kil", "connected:kill:1", "connected:stall", "connected:stall:5"),
            *("connected:slow:0", "connected:slow:10gbps", "connected:cut:1.5"),
            *("after-round-0:kill", "source/postcopy-101%:cut", "both/connected:kill"),
            "dest/hello:corrupt",
        ),
    ),
    (("simulate", "--evacuate"), "--evacuate", ("0", "-1", "1.5", "x", "1000001", "")),
    (("compare", "--cache"), "--cache", ("", "x", "0,0", "0,lots", "4MiB,")),
    (("compare", "--strategies"), "strateg", ("", "precopy", "pre-copy,pre-copy", "pre-copy,")),
    (("reproduce", "--rates"), "--rates", ("", "10G", "0,1MB/s", "x")),
    *(
        (
            (*SIMULATE, "--workload"),
            key,
            tuple(f"{name}:{'x,' * (name == 'trace')}{key}={each}" for each in WRONG_VALUES),
        )
        for name, workload in WORKLOADS.items()
        for key in workload.options
        if key != "file"
    ),
]


EXPECTED = r"expected|did you mean|twice|needs|: it has|number from \S+ to |neither true nor"
WHOLE = [(command, named, text) for command, named, texts in SYNTAXES for text in texts]
STEP = 7  # prime to the numbers of values, so that each key gets one of them, and each value a key


@pytest.mark.parametrize(
    ("command", "named", "text"),
    WHOLE if FULL else WHOLE[::STEP],
)
def test_what_is_wrong_with_any_key_is_said_in_our_words(
    command: tuple[str, ...], named: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    *others, option = command
    assert run_app(APP, [*others, f"{option}={text}"]) == 2, capsys.readouterr()
    out, said = capsys.readouterr()
    assert out == ""
    assert said.count("\n") == 1
    assert not LIBRARY.search(said), said
    assert named in said
    assert re.search(EXPECTED, said), said


FILES = {
    "fleet": (
        ("simulate", "--max-bandwidth", "1MB/s", "--fleet"),
        "[[guest]]\nmemory = '1GiB'\n{key} = {value}\n",
        ("workload", "count", "downtime-limit", "vcpus", "name", "colour"),
    ),
    "plan": (
        ("sweep", "--dry-run"),
        "[options]\n{key} = {value}\n",
        ("memory", "vcpus", "low", "max-bandwidth", "timeout", "strategy", "net", "schedule",
         "net.delay", "net.loss", "net.rtt", "verify", "inject", "stratgy"),
    ),
}  # fmt: skip


IN_FILES = [
    (kind, key, value)
    for kind, (_, _, keys) in FILES.items()
    for key in keys
    for value in ("-1", "'x y'", "1e30", "[]", "{a = 1}", "1979-05-27", "''")
]


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    IN_FILES if FULL else IN_FILES[::4],
)
def test_what_is_wrong_in_a_file_is_said_in_our_words(
    kind: str, key: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, text, _ = FILES[kind]
    file = tmp_path / "file.toml"
    file.write_text(text.format(key=key, value=value))
    code = run_app(APP, [*command, str(file)])
    _, said = capsys.readouterr()
    if code == 0:
        # As an axis of a plan has it: no schedule, or nothing injected, in some of the cells.
        assert (key, value) in {("name", "'x y'"), ("schedule", "''"), ("inject", "[]")}
        return
    assert code == 2
    assert said.count("\n") == 1
    assert not LIBRARY.search(said), said
    assert str(file) in said
