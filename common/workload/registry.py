"""Every workload by name, and the reader of `NAME[:key=value,...]`.

A workload may have a key that need not be named if it comes first: `trace:FILE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.errors import UsageError
from pageferry.common.workload.builtin import BUILTIN
from pageferry.common.workload.options import Option
from pageferry.common.workload.spec import Chosen, Spec

_SHOWN: Final = 80  # characters of what somebody wrote, in a message


class WorkloadError(UsageError):
    """A workload's text that is wrong.

    Args:
        message: One line: what is wrong, and what was expected.
        key: The option at fault; None: no single one is.

    Attributes:
        key: As given.
    """

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class Registry(Mapping[str, Spec]):
    """Workloads by name, in the order in which they are listed.

    Args:
        specs: The workloads; `ValueError` if two share a name.
    """

    def __init__(self, specs: Iterable[Spec] = ()) -> None:
        self._specs: dict[str, Spec] = {}
        for spec in specs:
            self.add(spec)

    def __getitem__(self, name: str) -> Spec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def add(self, spec: Spec) -> None:
        """Add a workload at the end.

        Args:
            spec: The workload.

        Raises:
            ValueError: Its name is taken.
        """
        if spec.name in self._specs:
            raise ValueError(f"there is a workload {spec.name} already")
        self._specs[spec.name] = spec

    @property
    def options(self) -> dict[str, Option]:
        """Every option that any workload has; of those that share a name, the most general one."""
        found: dict[str, Option] = {}
        for spec in self.values():
            for key, option in spec.options.items():
                if key not in found or option.reader.as_text:
                    found[key] = option
        return found

    def choose(self, text: str) -> Chosen:
        """Parse a workload's text, such as `uniform:rate=40MB/s,lines=4`.

        Args:
            text: As a user wrote it, or as another host sent it.

        Returns:
            The workload with a value for each of its options.

        Raises:
            WorkloadError: The text is wrong; the message is one line.
        """
        name, colon, rest = text.partition(":")
        spec = self.find(name)
        values = {key: option.default for key, option in spec.options.items()}
        values |= _given(spec, rest.split(",") if colon else [])
        return Chosen(spec, {key: _read(spec, key, value) for key, value in values.items()}, text)

    def find(self, name: str) -> Spec:
        """Find a workload by its name.

        Args:
            name: The name alone, without options.

        Returns:
            The workload.

        Raises:
            WorkloadError: There is none; the message suggests others.
        """
        if name in self:
            return self[name]
        known, hint = ", ".join(self), did_you_mean(name, self)
        rest = f"{hint} There are {known}" if hint else f"expected one of {known}"
        raise WorkloadError(f"unknown workload {_cut(name)}: {rest}")


def _given(spec: Spec, items: list[str]) -> dict[str, str]:
    """Read what is written, by key, each at most once. Raises `WorkloadError`."""
    given: dict[str, str] = {}
    for index, item in enumerate(items):
        if index == 0 and spec.first_key is not None and not item:
            continue  # it is missing, which its own check reports best
        key, equals, value = item.partition("=")
        if index == 0 and spec.first_key is not None and key not in spec.options:
            key, equals, value = spec.first_key, "=", item
        if not equals:
            raise WorkloadError(f"workload {spec.name}: {_cut(item)} is not key=value")
        if key not in spec.options:
            raise WorkloadError(_no_such(spec, key), key)
        if key in given:
            raise WorkloadError(f"workload {spec.name}: {key} is given twice", key)
        given[key] = value
    return given


def _no_such(spec: Spec, key: str) -> str:
    known, hint = ", ".join(spec.options) or "none", did_you_mean(key, spec.options)
    rest = f"{hint} It has {known}" if hint else f"it has {known}"
    return f"workload {spec.name} has no option {_cut(key)}: {rest}"


def _read(spec: Spec, key: str, value: str) -> Any:
    try:
        return spec.options[key].parse(value)
    except ValueError as error:
        raise WorkloadError(f"workload {spec.name}, {key}: {error}", key) from None


def _cut(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}…"


WORKLOADS: Final = Registry(BUILTIN)


def parse_workload(text: str) -> Chosen:
    """Parse a workload's text, of those that pageferry brings along.

    Args:
        text: `NAME[:key=value,...]`.

    Returns:
        The workload with a value for each of its options.

    Raises:
        WorkloadError: The text is wrong; the message is one line.
    """
    return WORKLOADS.choose(text)
