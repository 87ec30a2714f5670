"""What is wrong with a command line, in our words: what, where, what was expected.

cyclopts finds the mistake; its own sentences speak of parameters, tokens and coercion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pydantic
from cyclopts import App, CycloptsError
from cyclopts.exceptions import (
    CoercionError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)

from pageferry.common.command_line.complaints import complaint, shortened
from pageferry.common.command_line.field_spec import FieldSpec, listed
from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.units import parse_rate, parse_size

_MORE: Final = "--help lists what there is"
_METAVARS: Final[dict[Any, str]] = {int: "N", float: "N", Path: "PATH", Path | None: "PATH"}
_WORDS: Final = {bool: "true or false", int: "a whole number", float: "a number"}


def usage(error: CycloptsError) -> str:
    """Word what cyclopts found wrong with a command line.

    Args:
        error: As cyclopts raised it.

    Returns:
        One line, with the command or the option it is about.
    """
    wordings: dict[type[CycloptsError], Callable[[Any], str]] = {
        UnknownCommandError: _unknown_command,
        UnknownOptionError: _unknown_option,
        UnusedCliTokensError: _unused,
        MissingArgumentError: _missing,
        RepeatArgumentError: _repeated,
        CoercionError: _not_read,
        ValidationError: _refused,
    }
    for kind, worded in wordings.items():
        if isinstance(error, kind):
            return worded(error)
    return f"{_command(error)}: the options are not understood ({_MORE})"


def _command(error: CycloptsError) -> str:
    """Write the command that was being parsed, with its parents."""
    return " ".join(error.command_chain or ("pageferry",))


def _suggested(hint: str) -> str:
    """Put a hint behind a sentence, if there is one."""
    return f"; {hint}" if hint else ""


def _unknown_command(error: UnknownCommandError) -> str:
    """Word a command that does not exist, or an option without a command."""
    word = (error.unused_tokens or [""])[0]
    known = [] if error.app is None else _commands(error.app)
    if word.startswith("-"):
        return (
            f"{word}: expected a command first, as in pageferry {known[0]} {word}:"
            f" {', '.join(known)}"
            if known
            else f"{word}: expected a command first"
        )
    hint = did_you_mean(word, known)
    return (
        f"{_command(error)}: {word!r} is no command: expected {listed(known)}" + _suggested(hint)
        if known
        else f"{_command(error)}: {word!r} is no command"
    )


def _commands(app: App) -> list[str]:
    """List the commands that `--help` shows."""
    return [name for name in app if not name.startswith("-") and app[name].show]


def _unknown_option(error: UnknownOptionError) -> str:
    """Word an option that the command does not have."""
    word = error.token.keyword or error.token.value
    names = _names(error.argument_collection)
    hint = did_you_mean(word.partition("=")[0], names)
    return f"{_command(error)} has no option {word}{_suggested(hint) or f' ({_MORE})'}"


def _names(arguments: Iterable[Any]) -> list[str]:
    """List the flags that people may give."""
    return [
        name
        for each in arguments
        if each.parse and each.parameter.show is not False
        for name in each.names
        if name.startswith("--")
    ]


def _unused(error: UnusedCliTokensError) -> str:
    """Word a value without an option before it, with the options it could belong to."""
    word = (error.unused_tokens or [""])[0]
    said = f"{_command(error)}: {shortened(word)} stands alone: expected an option before it"
    options = _options_for(word, error)
    if options:
        return f"{said}, as in {listed([f'{option} {word}' for option in options])}"
    return f"{said} ({_MORE})"


def _options_for(word: str, error: CycloptsError) -> list[str]:
    """List the options of this command that would take the word."""
    names = [] if error.app is None else _flags_of(error)
    found = []
    for option, reads in _LIKELY.items():
        if option in names and reads(word):
            found.append(option)
    return found


def _flags_of(error: CycloptsError) -> list[str]:
    """List the flags of the command that was being parsed."""
    assert error.app is not None  # noqa: S101
    app = error.app
    for name in error.command_chain or ():
        if name in app:
            app = app[name]
    return _names(app.assemble_argument_collection())


def _is(parse: Callable[[str], float], *, bare: bool = False) -> Callable[[str], bool]:
    def reads(word: str) -> bool:
        try:
            parse(word)
        except ValueError:
            return False
        return bare or not word.isdigit()

    return reads


def _one_of(field: str) -> Callable[[str], bool]:
    def reads(word: str) -> bool:
        from pageferry.common.config.model import MigrationConfig

        choices = FieldSpec.of(MigrationConfig.model_fields[field]).choices
        return word in choices or bool(did_you_mean(word, choices))

    return reads


def _names_workload(word: str) -> bool:
    """Tell whether a word begins with the name of a workload."""
    from pageferry.common.workload.registry import WORKLOADS

    return word.partition(":")[0] in WORKLOADS


_LIKELY: Final[dict[str, Callable[[str], bool]]] = {
    "--memory": _is(parse_size),
    "--max-bandwidth": _is(parse_rate),
    "--strategy": _one_of("strategy"),
    "--strategies": _one_of("strategy"),
    "--workload": _names_workload,
}


def _missing(error: MissingArgumentError) -> str:
    """Word an option that is missing, or an option without its value."""
    argument = error.argument
    if argument is None:
        return f"{_command(error)}: something is missing ({_MORE})"
    name = error.keyword or argument.name
    if argument.tokens or error.keyword:
        following = _following(error)
        spec = FieldSpec.of_type(argument.field_info.annotation)
        expected = spec.expected if spec.unit or spec.choices or spec.range else ""
        expected = expected or f"{name} {_metavar(argument)}"
        if following is not None:
            return f"{name}: {shortened(following)} is no value: expected {expected}"
        return f"{_command(error)}: {name} needs a value: expected {expected}"
    if argument.index is not None:
        return f"{_command(error)}: {name.lstrip('-').upper()} is missing ({_MORE})"
    return f"{_command(error)}: expected {name} {_metavar(argument)} ({_MORE})"


def _following(error: MissingArgumentError) -> str | None:
    """Find a word behind the flag that was taken for an option, as in `-64MiB`."""
    words = error.root_input_tokens or []
    for flag, word in pairwise(words):
        if flag == error.keyword and word.startswith("-") and not word.startswith("--"):
            return word
    return None


def _metavar(argument: Any) -> str:
    """Return what stands behind the flag in `--help`."""
    if argument.parameter.metavar:
        return str(argument.parameter.metavar)
    name = str(argument.name)
    if name in ("--listen", "--to"):
        return "HOST:PORT"
    if name in ("--json", "--html"):
        return "FILE"
    return _METAVARS.get(argument.hint) or name.lstrip("-").upper()


def _refused(error: ValidationError) -> str:
    """Word a value that belongs to no model and was refused."""
    argument, cause = error.argument, error.__cause__
    if argument is None or not isinstance(cause, pydantic.ValidationError):
        return f"{_command(error)}: {error.exception_message or 'the options are not understood'}"
    spec = FieldSpec.of_type(argument.field_info.annotation)
    said = complaint(cause.errors(include_url=False)[0], spec)
    if not argument.name.startswith("-"):  # several options together; the sentence names them
        return said
    return f"{argument.name}: {said}"


def _repeated(error: RepeatArgumentError) -> str:
    """Word an option that is given twice."""
    return f"{_command(error)}: {error.token.keyword} is given twice: expected it once"


def _not_read(error: CoercionError) -> str:
    """Word a value that could not be converted to its option's type."""
    token, kind = error.token, error.target_type
    word = "" if token is None else token.value
    name = (token.keyword if token is not None else None) or (
        error.argument.name if error.argument is not None else "a value"
    )
    expected = None if kind is None else _WORDS.get(kind)
    if expected is None:
        choices: Sequence[str] = FieldSpec([kind]).choices
        expected = listed(choices) or "another value"
        return f"{name}: {word!r} is unknown: expected {expected}" + _suggested(
            did_you_mean(word, choices)
        )
    said = "neither true nor false" if kind is bool else f"not {expected}"
    return f"{name}: {word!r} is {said}: expected {expected}"
