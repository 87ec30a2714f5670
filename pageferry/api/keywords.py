"""Keywords of the API to the models of the command line, whose complaints are the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.config.model import explain
from pageferry.common.errors import UsageError

M = TypeVar("M", bound=BaseModel)


class Keywords:
    """What a caller gave, until each model has taken its own."""

    def __init__(self, given: Mapping[str, Any], known: Collection[str]) -> None:
        """known: the names that there are. Raises `UsageError` for any other."""
        for name in given:
            if name not in known:
                hint = did_you_mean(name, sorted(known))
                raise UsageError(f"{name}: unknown option{f'; {hint}' if hint else ''}")
        self._left = dict(given)

    def take(self, model: type[M], base: Mapping[str, Any] | None = None) -> M:
        """Make a model of its own names; what `base` has is taken where none was given.

        Raises:
            UsageError: A value is wrong; one line with the option, what it is, and what it may be.
        """
        own = {name: self._left.pop(name) for name in model.model_fields if name in self._left}
        return checked(model, {**(base or {}), **own})

    def pop(self, name: str, default: Any = None) -> Any:
        """Take one that belongs to no model."""
        return self._left.pop(name, default)

    def rename(self, name: str, to: str) -> None:
        """Have one stand for another. Raises `UsageError` where both were given."""
        if name in self._left:
            if to in self._left:
                raise UsageError(f"{name} and {to} are the same option: expected one of them")
            self._left[to] = self._left.pop(name)


def checked(model: type[M], values: Mapping[str, Any]) -> M:
    """Make a model. Raises `UsageError` with one line."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError(explain(error)) from None
