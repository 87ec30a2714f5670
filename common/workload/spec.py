"""What there is to know of a workload without compiling it, and a workload as a user chose it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from pageferry.common.workload.mixes import Mix
from pageferry.common.workload.options import Option


def load(place: str) -> Any:
    """What `module:name` says is there."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class Spec:
    """A workload by its name.

    models: what it stands for, in a phrase; about: how it goes about it; step: what one step is,
    the unit in which its speed is told. made_by: `module:Class` of what compiles and runs it,
    imported when a guest is made. first_key: the option that may be written without its name,
    first. complete: whether its name alone is enough to make one. pin: `module:function` where
    something outside the text belongs to the workload (a file): of options and text it makes the
    text that says which content is meant, and raises `UsageError` where that can't be had.
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
    """A workload with its options, as `text` has them. options: each has a value."""

    spec: Spec
    options: Mapping[str, Any]
    text: str

    @property
    def name(self) -> str:
        """The workload's."""
        return self.spec.name

    @property
    def zero_share(self) -> float:
        """Share of memory that is zero at the start."""
        return float(self.options.get("zero-share", 0.0))

    @property
    def entropy(self) -> float:
        """Share of each other page that is random at the start."""
        return float(self.options.get("entropy", 1.0))

    @property
    def mix(self) -> Mix | None:
        """The measured mixture of lines that its visits follow, where one was asked for."""
        lines = self.options.get("lines")
        return lines if isinstance(lines, Mix) else None

    def pinned(self) -> str:
        """The text as another host must be told it.

        It then says which content is meant of what is outside the text. Raises `UsageError` where
        that can't be had.
        """
        if self.spec.pin is None:
            return self.text
        pin: Callable[[Mapping[str, Any], str], str] = load(self.spec.pin)
        return pin(self.options, self.text)
