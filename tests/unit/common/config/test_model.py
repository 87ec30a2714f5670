from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from pageferry.common.config.addresses import parse_address
from pageferry.common.config.guest import GuestConfig
from pageferry.common.config.model import MigrationConfig, explain
from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.errors import UsageError
from pageferry.common.units import parse_size


def refusal(model: type[GuestConfig] | type[StrategyConfig], **values: Any) -> str:
    """The one line that the user sees."""
    with pytest.raises(ValidationError) as caught:
        model(**values)
    text = explain(caught.value)
    assert "\n" not in text
    return text


def test_defaults_are_the_documented_ones() -> None:
    config = MigrationConfig()
    assert config.memory == 2**30
    assert config.pages == 262_144
    assert (config.cache, config.cache_line, config.cache_ways) == (4 * 2**20, 64, 16)
    assert (config.strategy, config.low, config.high) == ("three-path", 0.1, 0.5)
    assert (config.max_rounds, config.downtime_limit) == (9, 0.3)
    assert config.max_bandwidth == 1e8
    assert config.verify
    assert (config.compress, config.delta, config.delta_cache) == ("none", "none", 64 * 2**20)


def test_the_cache_for_deltas_is_no_larger_than_the_guest() -> None:
    assert MigrationConfig(delta_cache=2**40).delta_memory == 0  # no deltas
    assert MigrationConfig(delta="xbzrle").delta_memory == 64 * 2**20
    assert MigrationConfig(delta="xbzrle", memory=2**25).delta_memory == 2**25


def test_text_is_read_as_people_write_it() -> None:
    config = MigrationConfig.model_validate(
        {
            "memory": "512MiB",
            "cache": "0",
            "low": "5%",
            "high": "0.25",
            "downtime_limit": "50ms",
            "max_bandwidth": "unlimited",
        }
    )
    assert (config.memory, config.cache) == (2**29, 0)
    assert (config.low, config.high) == (0.05, 0.25)
    assert config.downtime_limit == 0.05
    assert math.isinf(config.max_bandwidth)


# -- the guest ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"memory": 4097 * 16}, "--memory 65552 is not a whole number of 4096-byte pages"),
        (
            {"memory": "128KiB", "vcpus": 3, "cache": 0},
            "--memory 128KiB is too small for 3 vCPU(s): expected at least 192KiB",
        ),
        ({"cache_line": 96}, "--cache-line 96 is not a power of two: expected one from 64 to 4096"),
        (
            {"cache": 5 * 2**20, "vcpus": 3},
            "--cache 5MiB does not divide into a power of two of sets of 16 ways x 64 bytes for"
            " 3 vCPU(s): expected 3MiB or 6MiB",
        ),
        ({"cache": 1024, "vcpus": 3}, "for 3 vCPU(s): expected 3KiB or 6KiB"),
        ({"cache": 5 * 2**20}, "expected 4MiB or 8MiB"),
        ({"cache": 64}, "expected 1KiB or 2KiB"),
        ({"cache": 2**36 - 1, "vcpus": 3}, "for 3 vCPU(s): expected 48GiB"),
        ({"cache": 2**20, "cache_ways": 12}, "expected 768KiB or 1536KiB"),
        ({"memory": 0}, "--memory: 0B is too small: expected a size from 4KiB to 16TiB"),
        ({"memory": "1 GiB or so"}, "--memory: '1 GiB or so' is not a size"),
        ({"memory": None}, "--memory: None is not a size: expected a size from 4KiB to 16TiB"),
        ({"vcpus": 65}, "--vcpus: 65 is too large: expected a whole number from 1 to 64"),
        ({"cache_line": 32}, "--cache-line: 32B is too small: expected a size from 64B to 4KiB"),
        ({"seed": -1}, "--seed: "),
        ({"cache_size": 1}, "--cache-size: unknown: expected memory"),
    ],
)
def test_a_guests_wrong_values_are_refused_in_our_words(
    values: dict[str, Any], message: str
) -> None:
    assert message in refusal(GuestConfig, **values)


@given(
    cache=st.integers(1, 2**36),
    line=st.integers(6, 12).map(lambda bits: 1 << bits),
    ways=st.integers(1, 64),
    vcpus=st.integers(1, 64),
)
def test_suggested_cache_sizes_work(cache: int, line: int, ways: int, vcpus: int) -> None:
    rest: dict[str, Any] = {"cache_line": line, "cache_ways": ways, "vcpus": vcpus}
    try:
        GuestConfig(cache=cache, **rest)
    except ValidationError as error:
        found = re.search(r"expected (\w+)(?: or (\w+))?$", explain(error))
        assert found
        sizes = [parse_size(text) for text in found.groups() if text]
        for size in sizes:
            assert GuestConfig(cache=size, **rest).cache_used == size
        if len(sizes) == 2 and cache > sizes[0]:
            assert sizes[0] < cache < sizes[1]


def test_the_smallest_guest_is_allowed() -> None:
    config = GuestConfig(memory=16 * 4096, cache=0)
    assert config.pages == 16
    assert GuestConfig(memory=16 * 4096, cache=1024).cache == 1024  # one set


@given(ways=st.integers(1, 64), vcpus=st.integers(1, 64), line=st.sampled_from([64, 256, 4096]))
def test_the_default_cache_divides_among_any_vcpus(ways: int, vcpus: int, line: int) -> None:
    assume(vcpus * ways * line <= 4 * 2**20)
    config = GuestConfig(vcpus=vcpus, cache_ways=ways, cache_line=line)
    sets, rest = divmod(config.cache_part, ways * line)
    assert rest == 0
    assert sets > 0
    assert sets & (sets - 1) == 0
    assert config.cache_used == vcpus * config.cache_part <= config.cache
    assert 2 * config.cache_part > config.cache // vcpus - 2 * ways * line
    assert (config.cache_note is None) == (config.cache_used == config.cache)


def test_how_a_cache_is_divided_is_said() -> None:
    assert GuestConfig().cache_note is None
    assert GuestConfig(vcpus=3).cache_note == (
        "of a cache of 4MiB 3MiB is used, 1MiB for each vCPU: a power of two of sets of 16 ways x"
        " 64 bytes"
    )
    assert GuestConfig(cache_ways=3).cache_used == 3 * 2**20
    assert GuestConfig(cache=0, vcpus=3).cache_note is None


# -- the strategy ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low": "60%"}, "--low 60% is above --high 50%"),
        ({"low": "110%"}, "--low: '110%' is not a share: expected 0 to 100%"),
        (
            {"high": 1.5},
            "--high: 150% is too large: expected a share from 0% to 100%",
        ),
        (
            {"strategy": "x"},
            "--strategy: 'x' is unknown: expected three-path, cache-aware",
        ),
        ({"path3": "x"}, "--path3: 'x' is unknown: expected stop-and-copy or post-copy"),
        ({"max_rounds": -1}, "--max-rounds: "),
        (
            {"downtime_limit": 0},
            "--downtime-limit: 0s is too short: expected a time above 0s and at most 1h",
        ),
        ({"downtime_limit": "soon"}, "--downtime-limit: 'soon' is not a time"),
    ],
)
def test_a_strategys_wrong_values_are_refused_in_our_words(
    values: dict[str, Any], message: str
) -> None:
    assert message in refusal(StrategyConfig, **values)


@pytest.mark.parametrize("path3", ["stop-and-copy", "post-copy"])
def test_both_kinds_of_path_3(path3: str) -> None:
    assert StrategyConfig.model_validate({"path3": path3}).path3 == path3


def test_equal_thresholds_are_allowed() -> None:
    assert StrategyConfig(low=0.5, high=0.5).low == 0.5


# -- all of it ------------------------------------------------------------------------------------


def read_flags(flags: list[str]) -> dict[str, Any]:
    """What a command line would make of them."""
    values: dict[str, Any] = {}
    words = iter(flags)
    for word in words:
        name = word.removeprefix("--").replace("-", "_")
        if name.removeprefix("no_") in MigrationConfig.model_fields and "no_" in name:
            values[name.removeprefix("no_")] = False
        elif isinstance(MigrationConfig.model_fields[name].default, bool):
            values[name] = True
        else:
            values[name] = next(words)
    return values


def test_flags_leave_defaults_out() -> None:
    assert MigrationConfig().flags() == []
    config = MigrationConfig(memory=2**29, low=0.05, verify=False, max_bandwidth=math.inf)
    assert config.flags() == [
        *("--memory", "512MiB", "--low", "5%", "--max-bandwidth", "unlimited", "--no-verify")
    ]


@given(
    memory=st.integers(64, 2**28).map(lambda pages: pages * 4096),
    seed=st.integers(0, 2**63 - 1),
    cache=st.sampled_from([0, 2**20, 2**22]),
    low=st.floats(0, 0.5),
    high=st.floats(0.5, 1),
    downtime_limit=st.floats(1e-9, 3600),
    max_bandwidth=st.floats(1, 1e15) | st.just(math.inf),
    warmup=st.floats(0, 86400),
    verify=st.booleans(),
)
def test_flags_give_the_configuration_again(**values: Any) -> None:
    config = MigrationConfig(**values)
    assert MigrationConfig.model_validate(read_flags(config.flags())) == config


def test_a_configuration_survives_json() -> None:
    config = MigrationConfig(memory=2**29, workload="uniform:rate=40MB/s", low=1 / 3)
    assert MigrationConfig.model_validate_json(config.model_dump_json()) == config


def test_the_guest_is_what_both_agents_must_agree_on() -> None:
    config = MigrationConfig(memory=2**29, seed=7, workload="zipf", low=0.2)
    assert config.guest == GuestConfig(memory=2**29, seed=7, workload="zipf")


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        MigrationConfig().memory = 1  # type: ignore[misc]


# -- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:4444", ("127.0.0.1", 4444)),
        ("[::1]:4444", ("::1", 4444)),
        ("[fe80::1%eth0]:65535", ("fe80::1%eth0", 65535)),
        ("host:1", ("host", 1)),
    ],
)
def test_an_address_is_parsed_into_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, "--to") == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "[::1]",
        ":4444",
        "[]:1",
        "host:",
        "host:x",
        "host:-1",
        "host:65536",
        "host:٤",
        "a:b:1",
        "[::1:4444",
        "::g:1",
        "host:0",
        "a b:1",
        "a,b:1",
        "[zz]:1",
        "[fe80::1]:1",
        "fe80::1:1",
    ],
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--to: .* is not an address"):
        parse_address(text, "--to")


def test_port_0_is_one_to_listen_on() -> None:
    assert parse_address("host.example:0", "--listen") == ("host.example", 0)


@pytest.mark.parametrize("text", ["fd00::1:4444", "::1:80", "fe80::1%eth0:1"])
def test_an_address_with_two_meanings_is_refused_with_both(text: str) -> None:
    host, _, port = text.rpartition(":")
    with pytest.raises(UsageError) as caught:
        parse_address(text, "--to")
    assert f"[{host}]:{port}" in str(caught.value)
    assert f"[{text}]:4444" in str(caught.value)


@pytest.mark.parametrize("workload", ["uniform", "zipf", "sequential", "io-intensive"])
def test_a_working_set_above_memory_is_refused_before_anything_begins(workload: str) -> None:
    MigrationConfig(memory=2**26, workload=f"{workload}:working-set=64MiB")
    with pytest.raises(ValidationError, match=r"working-set=65MiB does not fit.* at most 64MiB"):
        MigrationConfig(memory=2**26, workload=f"{workload}:working-set=65MiB")
