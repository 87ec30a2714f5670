from __future__ import annotations

import math
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.units import (
    LINE_SIZE,
    LINES_PER_PAGE,
    PAGE_SIZE,
    figures,
    format_rate,
    format_share,
    format_size,
    format_time,
    human_bytes,
    parse_rate,
    parse_share,
    parse_size,
    parse_time,
)

LARGEST = sys.float_info.max
SMALLEST = 5e-324


def test_a_page_has_a_bit_a_line() -> None:
    assert PAGE_SIZE == LINE_SIZE * LINES_PER_PAGE
    assert LINES_PER_PAGE == 64


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64B", 64),
        ("1KiB", 1024),
        ("512MiB", 2**29),
        ("1.5GiB", 3 * 2**29),
        (".5k", 512),
        ("1 MB", 10**6),
        (" 2g ", 2**31),
        ("1tib", 2**40),
        ("9007199254740993", 2**53 + 1),  # no float in between
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_a_size_is_parsed_to_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100MB/s", 1e8),
        ("800mbit", 1e8),
        ("10gbit", 1.25e9),
        ("8bit", 1.0),
        ("1kbit", 125.0),
        ("1KiB/s", 1024.0),
        ("0.1MB/s", 1e5),
        ("unlimited", math.inf),
        (" MAX ", math.inf),
    ],
)
def test_a_rate_is_parsed_to_bytes_a_second(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("300ms", 0.3),
        ("35ms", 0.035),
        ("35us", 0.000035),
        ("7µs", 0.000007),
        ("2s", 2.0),
        ("1m", 60.0),
        ("1.5min", 90.0),
        ("2h", 7200.0),
    ],
)
def test_a_time_is_parsed_to_seconds(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "share"),
    [("10%", 0.1), ("0.1", 0.1), ("33.3%", 0.333), ("100%", 1.0), ("0", 0.0), ("1", 1.0)],
)
def test_a_share_is_parsed_to_a_fraction(text: str, share: float) -> None:
    assert parse_share(text) == share


@given(st.integers(0, 10**6))
def test_a_decimal_is_read_as_it_is_written(n: int) -> None:
    """And not as a product of two floats, each of them rounded."""
    assert parse_time(f"{n}ms") == float(f"{n}e-3")
    assert parse_time(f"{n}us") == float(f"{n}e-6")
    assert parse_rate(f"{n + 1}kB/s") == float(f"{n + 1}e3")
    assert parse_share(f"{n / 10**4}%") == float(f"{n}e-6")


REFUSED: list[tuple[Callable[[str], float], str, str]] = [
    (parse_size, "", "'' is not a size: expected something like 512MiB or 1GiB"),
    (parse_size, "big", "'big' is not a size: expected something like"),
    (parse_size, "-1", "'-1' is not a size"),
    (parse_size, "1e9", "'1e9' is not a size"),
    (parse_size, "1 2", "'1 2' is not a size"),
    (parse_size, "٣", "is not a size"),
    (parse_size, "4 parsecs", "unknown unit, expected KiB, MiB, GiB, kB, MB or GB"),
    (parse_size, "100MB/s", "unknown unit"),
    (parse_size, "0.3", "'0.3' is not a whole number of bytes"),
    (parse_size, "0.0000001GiB", "not a whole number of bytes"),
    (parse_size, "9223372036854775808", "too large for a size"),
    (parse_size, "9" * 399 + "TiB", "too large for a size"),
    (parse_size, "9" * 5000, "'99999999999999999999'... has too many digits for a size"),
    (parse_rate, "100", "'100' is not a rate: unknown unit"),
    (parse_rate, "100MB", "expected something like 100MB/s, 800mbit or unlimited"),
    (parse_rate, "fast", "'fast' is not a rate: expected something like 100MB/s"),
    (parse_rate, "0MB/s", "expected more than zero"),
    (parse_rate, "9" * 399 + "GB/s", "too large for a rate"),
    (parse_time, "3", "'3' is not a time: expected a unit, as in 300ms, 2s or 1m"),
    (parse_time, "3 fortnights", "expected a unit"),
    (parse_time, "soon", "'soon' is not a time: expected something like 300ms or 2s"),
    (parse_time, "9" * 399 + "h", "too large for a time"),
    (parse_share, "110%", "'110%' is not a share: expected 0 to 100%"),
    (parse_share, "1.1", "expected 0 to 100%"),
    (parse_share, "-0.1", "'-0.1' is not a share: expected something like 10% or 0.1"),
    (parse_share, "10MB", "'10MB' is not a share: expected something like 10% or 0.1"),
]


@pytest.mark.parametrize(("parse", "text", "message"), REFUSED)
def test_refusals_say_what_was_expected(
    parse: Callable[[str], float], text: str, message: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
@pytest.mark.parametrize("parse", [parse_size, parse_rate, parse_time, parse_share])
def test_no_text_does_anything_else_than_parse_or_refuse(
    parse: Callable[[str], float], text: str
) -> None:
    try:
        assert parse(text) >= 0
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either way out is right


@given(st.integers(0, 2**63 - 1) | st.builds(lambda n, p: n << p, st.integers(1, 99), st.just(30)))
def test_a_formatted_size_parses_to_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.floats(SMALLEST, LARGEST) | st.just(math.inf) | st.integers(1, 10**12).map(float))
def test_a_formatted_rate_parses_to_the_same(rate: float) -> None:
    assert parse_rate(format_rate(rate)) == rate


@given(st.floats(0, LARGEST) | st.floats(0, 1))
def test_a_formatted_time_parses_to_the_same(seconds: float) -> None:
    assert parse_time(format_time(seconds)) == seconds


@given(st.floats(0, 1))
def test_a_formatted_share_parses_to_the_same(share: float) -> None:
    assert parse_share(format_share(share)) == share


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_size(0), "0B"),
        (format_size(2**30), "1GiB"),
        (format_size(3 * 2**29), "1536MiB"),
        (format_size(3072), "3KiB"),
        (format_size(1025), "1025B"),
        (format_rate(1e8), "100MB/s"),
        (format_rate(1.25e9), "1.25GB/s"),
        (format_rate(0.5), "0.5B/s"),
        (format_rate(math.inf), "unlimited"),
        (format_time(0.3), "300ms"),
        (format_time(0.0), "0s"),
        (format_time(90), "90s"),
        (format_time(0.000035), "35us"),
        (format_time(1e22), "10000000000000000000000s"),
        (format_share(0.1), "10%"),
        (format_share(0.333), "33.3%"),
        (format_share(1), "100%"),
        (format_share(0), "0%"),
        (figures(0.123456, 3), "0.123"),
        (figures(99.96, 3), "100"),
        (figures(999.6, 3), "1,000"),
        (figures(9999.6, 4), "10,000"),
        (figures(10_987.2, 4), "10,987"),
        (figures(3_872.4, 4), "3,872"),
        (human_bytes(0), "0 B"),
        (human_bytes(999), "999 B"),
        (human_bytes(999.6), "1 kB"),
        (human_bytes(1500), "1.5 kB"),
        (human_bytes(999_499), "999 kB"),
        (human_bytes(999_700), "1 MB"),
        (human_bytes(2**29), "537 MB"),
        (human_bytes(2**30), "1.07 GB"),
        (human_bytes(999.7e9), "1,000 GB"),
        (human_bytes(12_345.6e9), "12,346 GB"),
    ],
)
def test_how_things_are_written(text: str, expected: str) -> None:
    assert text == expected


@given(st.floats(0, 1e15))
def test_no_exponents_for_people(size: float) -> None:
    assert "e" not in human_bytes(size)
