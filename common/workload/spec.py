"""What is known of a workload without compiling it, and a workload as a user chose it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from pageferry.common.workload.mixes import Mix
from pageferry.common.workload.options import Option


def import_place(place: str) -> Any:
    """Import what a place names.

    Args:
        place: `module:name`.

    Returns:
        The object of that name in the module.
    """
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class Spec:
    """A workload by its name.

    Attributes:
        name: As a user writes it.
        models: What it stands for, in a phrase.
        about: How it works, in sentences.
        step: What one step is, the unit of its speed.
        made_by: `module:Class` of what compiles and runs it, imported when a guest is made.
        options: Its options by key.
        first_key: The option that may be written without its name, first; None: none may.
        complete: Whether its name alone is enough to make one.
        pin: `module:function` where something outside the text belongs to the workload (a file):
            from options and text it makes the text that says which content is meant, and raises
            `UsageError` where that can't be had. None: nothing outside the text matters.
    """

    name: str
    models: str
    about: str
    step: str
    made_by: str
    options: Mapping[str, Option] = field(default_factory=dict)
    first_key: str | None = None
    complete: bool = True
    pin: str | None = None


@dataclass(frozen=True)
class Chosen:
    """A workload with its options.

    Attributes:
        spec: The workload.
        options: The value of every option, parsed; the default where the text gives none.
        text: As it was written.
    """

    spec: Spec
    options: Mapping[str, Any]
    text: str

    @property
    def name(self) -> str:
        """The workload's name."""
        return self.spec.name

    @property
    def zero_share(self) -> float:
        """The share of memory that is zero at the start."""
        return float(self.options.get("zero-share", 0.0))

    @property
    def entropy(self) -> float:
        """The share of each other page that is random at the start."""
        return float(self.options.get("entropy", 1.0))

    @property
    def mix(self) -> Mix | None:
        """The measured mixture of lines that its visits follow; None: none was asked for."""
        lines = self.options.get("lines")
        return lines if isinstance(lines, Mix) else None

    def pinned(self) -> str:
        """Make the text for another host: it says which content outside the text is meant.

        Returns:
            The text; unchanged where nothing outside it matters.

        Raises:
            UsageError: That content can't be had.
        """
        if self.spec.pin is None:
            return self.text
        pin: Callable[[Mapping[str, Any], str], str] = import_place(self.spec.pin)
        return pin(self.options, self.text)
