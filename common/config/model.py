"""The configuration of a migration: one frozen model for flags, agents and the report.

It becomes the command's flags, what the agents negotiate and what the report repeats. `GuestConfig`
determines every byte of a guest (with a step count), `StrategyConfig` every decision about rounds;
`MigrationConfig` is both, and how the run goes about it. Sizes are bytes, rates bytes per second,
times seconds, shares fractions; strings are read as people write them (`common.units`).
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from cyclopts import Parameter
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from pageferry.common.command_line.complaints import complaint
from pageferry.common.config.fields import Duration
from pageferry.common.config.guest import GuestConfig
from pageferry.common.config.transfer import TransferConfig
from pageferry.common.units import format_size
from pageferry.common.workload.options import Extent
from pageferry.common.workload.registry import WorkloadError, parse_workload


class MigrationConfig(TransferConfig, GuestConfig):
    """Every option of a migration."""

    count_writes: Annotated[
        bool,
        Field(description="report each page's writes, and those the cache absorbed (slower guest)"),
    ] = False
    warmup: Annotated[
        Duration,
        Field(ge=0, le=86400, description="TIME the guest runs before the migration starts"),
    ] = 1.0
    run_after: Annotated[
        Duration,
        Field(ge=0, le=86400, description="TIME the guest runs at the destination afterwards"),
    ] = 1.0
    verify: Annotated[
        bool, Field(description="replay the guest at the source and compare digests")
    ] = True
    vcpu_nice: Annotated[
        int,
        Field(
            ge=0,
            le=19,
            description="niceness of vCPU threads: the stream goes first, guests may starve",
        ),
    ] = 0

    @field_validator("workload")
    @classmethod
    def _known_workload(cls, text: str) -> str:
        """Refuse an unknown workload here, before a guest is made: that takes seconds.

        Not in `GuestConfig`: a destination that gets one reports itself what it does not know.
        """
        try:
            parse_workload(text)
        except WorkloadError as error:
            raise ValueError(str(error)) from None
        return text

    @model_validator(mode="after")
    def _one_way_to_slow_down(self) -> Self:
        """Refuse auto-converge together with a dirty limit."""
        if self.auto_converge and self.dirty_limit is not None:
            raise ValueError("--auto-converge and --dirty-limit exclude one another")
        return self

    @model_validator(mode="after")
    def _workload_fits(self) -> Self:
        """Refuse a workload whose working set is larger than the guest's memory."""
        for name, value in parse_workload(self.workload).options.items():
            if isinstance(value, Extent) and (value.size or 0) > self.memory:
                raise ValueError(
                    f"--workload: {name}={value} does not fit in the guest: expected at most"
                    f" {format_size(self.memory)}, its memory"
                )
        return self

    @property
    def travels_by_line(self) -> bool:
        """Whether pages may travel as lines.

        Only the cache knows which lines have changed, unless the log of every write is asked, which
        no hardware has; the kernel's dirty tracker knows whole pages only.
        """
        known = self.cache > 0 or self.line_tracker == "log"
        return self.granularity == "line" and known and self.dirty_tracker == "log"

    @property
    def delta_memory(self) -> int:
        """Bytes that the cache of pages for deltas may take; 0 without deltas."""
        return 0 if self.delta == "none" else min(self.delta_cache, self.memory)

    @property
    def may_switch(self) -> bool:
        """Whether the guest may come to run at the destination with pages missing."""
        if self.timeout is not None and self.timeout_action == "post-copy":
            return True
        if self.strategy in ("three-path", "cache-aware"):
            return self.path3 == "post-copy"
        return self.strategy in ("post-copy", "lazy-copy", "hybrid")

    @property
    def begins_with_all(self) -> bool:
        """Whether the first round sends all of the guest's memory."""
        return self.strategy not in ("post-copy", "lazy-copy")

    @property
    def guest(self) -> GuestConfig:
        """The part that both agents must agree on."""
        return GuestConfig(**{name: getattr(self, name) for name in GuestConfig.model_fields})

    def flags(self) -> list[str]:
        """Write the command-line options that give this configuration again.

        Returns:
            Words of a command line, defaults left out.
        """
        out: list[str] = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value == field.default:
                continue
            out += option_words(name, value, type(self))
        return out

    def as_given(self) -> dict[str, Any]:
        """Return what was given: a limit that a user set is not the same as one by default.

        Returns:
            Values by the names of their fields; those of fields left at their defaults are not in
            it.
        """
        return {name: getattr(self, name) for name in self.model_fields_set}


def _format(metadata: list[Any], value: Any) -> str:
    """Write a value as the field's own parser reads it."""
    for item in metadata:
        if isinstance(item, Parameter) and callable(item.show_default):
            return str(item.show_default(value))
    return str(value)


def option_words(name: str, value: Any, model: type[BaseModel]) -> list[str]:
    """Write the words that give a field a value on a command line.

    Args:
        name: The field's name.
        value: As the model holds it, not None.
        model: The model that has the field.

    Returns:
        The flag and its value; `--no-...` for False; the flag once for each member of a tuple.
    """
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, tuple):
        return [word for each in value for word in (flag, each)]
    return [flag, value_words(name, value, model)]


def value_words(name: str, value: Any, model: type[BaseModel] = MigrationConfig) -> str:
    """Write the value of an option as a person would. What its formatter raises comes through.

    Args:
        name: The field's name.
        value: As the model holds it.
        model: The model that has the field.

    Returns:
        The text, with its unit.
    """
    return _format(model.model_fields[name].metadata, value)


def first_fault(error: ValidationError) -> tuple[ErrorDetails, str]:
    """Find the first thing that is wrong, and word it.

    Args:
        error: Of any model; of ours the words are already in it.

    Returns:
        pydantic's detail of the first error, and one line about it without the option's name.
    """
    first = error.errors(include_url=False)[0]
    return first, complaint(first)


def explain(error: ValidationError) -> str:
    """Word a pydantic error as one line in the user's terms: the option, and what was expected.

    Args:
        error: Of any model; only its first error is told.

    Returns:
        `--option: ...`, or the words alone where it is about no single option.
    """
    first, message = first_fault(error)
    option = str(first.get("ctx", {}).get("option", ""))
    if not option:
        option = "".join(f"--{part}" for part in first["loc"][:1] if isinstance(part, str))
    return f"{option.replace('_', '-')}: {message}" if option else message
