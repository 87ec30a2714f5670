"""From the API's keywords to the models of the command line, with the same error messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.config.model import explain
from pageferry.common.errors import UsageError

M = TypeVar("M", bound=BaseModel)


class Keywords:
    """Keywords that a caller gave, until each model has taken its own.

    Args:
        given: The keywords; left unchanged.
        known: All names that the function takes.

    Raises:
        UsageError: One of them is not known.
    """

    def __init__(self, given: Mapping[str, Any], known: Collection[str]) -> None:
        for name in given:
            if name not in known:
                hint = did_you_mean(name, sorted(known))
                raise UsageError(f"{name}: unknown option{f'; {hint}' if hint else ''}")
        self._left = dict(given)

    def take(self, model: type[M], base: Mapping[str, Any] | None = None) -> M:
        """Take out the fields of a model, and make it.

        Args:
            model: The model; each field takes the keyword of its name.
            base: Values for fields that were not given; None has none. Fields in neither have their
                defaults.

        Returns:
            The model, validated.

        Raises:
            UsageError: A value is wrong; one line with the option, what it is, and what it may be.
        """
        own = {name: self._left.pop(name) for name in model.model_fields if name in self._left}
        return check_values(model, {**(base or {}), **own})

    def pop(self, name: str, default: Any = None) -> Any:
        """Take out a keyword that belongs to no model.

        Args:
            name: The keyword.
            default: What to return if it was not given.

        Returns:
            Its value as the caller gave it, not validated.
        """
        return self._left.pop(name, default)

    def rename(self, name: str, to: str) -> None:
        """Let one keyword stand for another; nothing is done if it was not given.

        Args:
            name: The keyword that callers use.
            to: The name that the model has for it.

        Raises:
            UsageError: Both were given.
        """
        if name in self._left:
            if to in self._left:
                raise UsageError(f"{name} and {to} are the same option: expected one of them")
            self._left[to] = self._left.pop(name)


def check_values(model: type[M], values: Mapping[str, Any]) -> M:
    """Validate values against a model.

    Args:
        model: The model to make.
        values: By field; what is missing has its default.

    Returns:
        The model.

    Raises:
        UsageError: A value is wrong; one line, the first mistake.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError(explain(error)) from None
