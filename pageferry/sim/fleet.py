"""The guests of a host: drawn from a mix, or described in a TOML file.

[[guest]]
memory = "8GiB"
workload = "zipf:rate=40MB/s"   # default: idle
count = 12                      # default: 1
downtime-limit = "100ms"        # default: what --downtime-limit says
vcpus = 2                       # default: what --vcpus says
name = "database"               # default: its workload
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import ConfigDict, Field, ValidationError

from pageferry.common.command_line.options import Options
from pageferry.common.config.fields import Duration, Size
from pageferry.common.config.model import MigrationConfig, explain, first_fault
from pageferry.common.errors import UsageError
from pageferry.common.files.input_files import parse_toml, read_file
from pageferry.common.units import PAGE_SIZE
from pageferry.sim.workloads import working_set

_MOST_FILE: Final = 16 * 2**20  # bytes
_MOST_GUESTS: Final = 1_000_000


def _hyphens(name: str) -> str:
    return name.replace("_", "-")


class GuestKind(Options):
    """Guests that are all alike.

    Attributes:
        memory: Bytes of each.
        workload: What each does.
        count: How many there are; the weight of this kind where guests are drawn.
        downtime_limit: Seconds; None is what `--downtime-limit` says.
        vcpus: Of each; None is what `--vcpus` says.
        name: What tables call them; None is the workload.
    """

    model_config = ConfigDict(alias_generator=_hyphens, populate_by_name=True)

    memory: Annotated[Size, Field(ge=PAGE_SIZE, le=2**44)]
    workload: Annotated[str, Field(max_length=512)] = "idle"
    count: Annotated[int, Field(ge=1, le=_MOST_GUESTS)] = 1
    downtime_limit: Annotated[Duration, Field(gt=0, le=3600)] | None = None
    vcpus: Annotated[int, Field(ge=1, le=64)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=80)] | None = None

    @property
    def label(self) -> str:
        """What tables call them."""
        return self.name or self.workload

    def config(self, base: MigrationConfig) -> MigrationConfig:
        """Make the configuration of one such guest's migration.

        Args:
            base: Options of all migrations; those that the kind has replace them.

        Returns:
            The configuration.

        Raises:
            UsageError: It is none, as where the memory is too small for the vCPUs.
        """
        own = {"memory": self.memory, "workload": self.workload}
        for name in ("downtime_limit", "vcpus"):
            if (value := getattr(self, name)) is not None:
                own[name] = value
        try:
            return MigrationConfig.model_validate(base.model_dump() | own)
        except ValidationError as error:
            said = explain(error).removeprefix("--")  # a file has keys, and no options
            raise UsageError(f"guest {self.label!r}: {said}") from None


# The mix that is drawn from without a file: memory, workload and downtime limit of a guest are
# drawn independently of one another, with these weights.
MIX_MEMORY: Final = (("2GiB", 30), ("4GiB", 25), ("8GiB", 20), ("16GiB", 15), ("32GiB", 10))
MIX_WORKLOAD: Final = (
    ("idle", 30),
    ("web-browsing", 25),
    ("io-intensive", 20),
    ("zipf:working-set=50%,rate=80MB/s,lines=4", 15),
    ("memory-intensive:working-set=10%,rate=400MB/s", 10),
)
MIX_DOWNTIME: Final = ((0.3, 80), (0.05, 20))


def draw(count: int, seed: int, kinds: Sequence[GuestKind] | None = None) -> list[GuestKind]:
    """Draw guests at random.

    Args:
        count: How many.
        seed: The same seed draws the same guests.
        kinds: What is drawn from, weighted by their counts; None is the built-in mix.

    Returns:
        Each guest's kind; guests of one kind share the object.
    """
    rng = random.Random(seed)  # noqa: S311 - which guests there are is no secret
    if kinds is not None:
        return rng.choices(kinds, [kind.count for kind in kinds], k=count)
    known: dict[tuple[str, str, float], GuestKind] = {}

    def pick(choices: Sequence[tuple[object, int]]) -> object:
        return rng.choices([what for what, _ in choices], [weight for _, weight in choices])[0]

    out = []
    for _ in range(count):
        key = (str(pick(MIX_MEMORY)), str(pick(MIX_WORKLOAD)), float(str(pick(MIX_DOWNTIME))))
        if key not in known:
            known[key] = GuestKind.model_validate(
                {"memory": key[0], "workload": key[1], "downtime_limit": key[2]}
            )
        out.append(known[key])
    return out


def everyone(kinds: Sequence[GuestKind]) -> list[GuestKind]:
    """List each guest of a file.

    Args:
        kinds: The file's kinds.

    Returns:
        Each kind as often as its count says, in the file's order.
    """
    return [kind for kind in kinds for _ in range(kind.count)]


def read_fleet(file: Path, base: MigrationConfig | None = None) -> list[GuestKind]:
    """Read the guests of a host from a file.

    Args:
        file: The TOML file.
        base: Options of all their migrations; None is all defaults.

    Returns:
        The kinds, in the file's order.

    Raises:
        UsageError: It can't be read, or a guest is wrong; one line that says which, and how.
    """
    raw = read_file(file, _MOST_FILE, option="--fleet")
    return parse_fleet(raw, f"--fleet: {file}", base or MigrationConfig())


def parse_fleet(raw: bytes, file: str, base: MigrationConfig) -> list[GuestKind]:
    """Read the guests of a host from the content of a file.

    Args:
        raw: The content.
        file: What the file is called, for messages.
        base: Options of all their migrations.

    Returns:
        The kinds, in the file's order.

    Raises:
        UsageError: It is no such file, or a guest is wrong; one line that says which, and how.
    """
    data = parse_toml(raw, file)
    guests = data.get("guest")
    if set(data) != {"guest"} or not isinstance(guests, list) or not guests:
        raise UsageError(f"{file}: expected tables [[guest]], and nothing else")
    kinds = [_kind(file, number, each, base) for number, each in enumerate(guests, 1)]
    if sum(kind.count for kind in kinds) > _MOST_GUESTS:
        raise UsageError(f"{file} has more than {_MOST_GUESTS:,} guests")
    return kinds


def _kind(file: str, number: int, table: object, base: MigrationConfig) -> GuestKind:
    try:
        kind = GuestKind.model_validate(table)
    except ValidationError as error:
        first, message = first_fault(error)
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{file}, guest {number}: {where}: {message}") from None
    try:
        config = kind.config(base)
        working_set(config.guest, by_line=config.travels_by_line)  # checks the workload's options
    except UsageError as error:
        raise UsageError(f"{file}, guest {number}: {error}") from None
    return kind
