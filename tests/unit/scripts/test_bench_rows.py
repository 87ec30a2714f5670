import json
from pathlib import Path

import pytest
from rich.console import Console

from pageferry.common.errors import (
    EXIT_FAILED,
    EXIT_OK,
    CancelledByUser,
    PageferryError,
    UsageError,
)
from scripts import bench_main
from scripts.bench_main import BY_NAME_ONLY, PARTS, benches, check_against, chosen, document
from scripts.bench_rows import (
    NO_LESS,
    NO_MORE,
    Effort,
    Row,
    absent,
    at_most,
    median_interval,
    paired_row,
    ratio_at_least,
    row,
    table,
)


def test_a_row_has_medians_their_ratio_and_spreads() -> None:
    found = row("x", "ms", [3.0, 1.0, 2.0], [6.0, 4.0, 40.0], against="y")
    assert (found.ours, found.reference, found.ratio) == (2.0, 6.0, 2 / 6)
    assert found.spread == (1.0, 3.0)
    assert found.ratio_spread == (2 / 40, 3 / 6)  # run by run
    assert found.met is None


@pytest.mark.parametrize(
    ("ours", "bar", "met"),
    [
        (90.0, ratio_at_least(0.9), True),
        (89.0, ratio_at_least(0.9), False),
        (0.2, at_most(0.2), True),
        (0.21, at_most(0.2), False),
    ],
)
def test_a_bar_is_of_the_ratio_or_of_the_figure(ours: float, bar: object, met: bool) -> None:
    assert row("x", "", [ours], [100.0], bar=bar).met is met  # type: ignore[arg-type]


def test_what_was_not_measured_meets_no_bar() -> None:
    found = row("x", "ms", [], [1.0], bar=at_most(1))
    assert (found.ours, found.ratio, found.met) == (None, None, None)
    assert row("x", "ms", [1.0], [], bar=ratio_at_least(1)).met is None
    assert row("x", "ms", [1.0], [0.0]).ratio is None


def shown(rows: list[Row]) -> str:
    console = Console(width=110)
    with console.capture() as capture:
        console.print(table("part", rows))
    return capture.get()


def test_a_group_stands_once_above_its_rows() -> None:
    text = shown([row(name, "ms", [1.0], [2.0], group="all", against="it") for name in "ab"])
    assert text.count("all; against it") == 1
    assert "0.5" in text


def test_a_table_says_what_is_absent_and_takes_no_markup() -> None:
    assert "[red] (is not there)" in shown([absent("[red]", "is not there")])


def test_parts_are_chosen_by_name() -> None:
    assert list(chosen([])) == [part for part in PARTS if part not in BY_NAME_ONLY]
    assert list(chosen(["all"])) == [part for part in PARTS if part != "against"]
    assert chosen(["memory:lines,checksum"]) == {"memory": ["lines", "checksum"]}
    assert chosen(["memory:lines", "memory:harvest"]) == {"memory": ["lines", "harvest"]}
    assert list(chosen(["startup"])["startup"]) == list(benches("startup"))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("no", "no part 'no': expected one of guest, faults"),
        ("memory:no", "no benchmark 'no' in memory: it has zero-scan"),
        ("memory:", "no benchmark '' in memory"),
    ],
)
def test_what_is_unknown_is_said_with_what_there_is(word: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        chosen([word])
    assert expected in str(caught.value)


def fail(_effort: Effort) -> list[Row]:
    raise PageferryError("no such luck")


def cancel(_effort: Effort) -> list[Row]:
    raise CancelledByUser("enough")


def test_a_failure_is_a_row_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"a": fail, "b": lambda _effort: [row("x", "ms", [1.0])], "c": cancel}
    monkeypatch.setattr(bench_main, "benches", lambda _part: known)
    failed, measured = bench_main.measure("memory", ["a", "b"], Effort())
    assert (failed.name, failed.failed, failed.note) == ("a", True, "failed: no such luck")
    assert (measured.ours, measured.failed) == (1.0, False)
    with pytest.raises(CancelledByUser):
        bench_main.measure("memory", ["b", "c"], Effort())
    assert bench_main.bench("memory:a,b") == EXIT_FAILED
    assert bench_main.bench("memory:b") == EXIT_OK


def test_the_document_has_every_run() -> None:
    rows = {"memory": [row("x", "ms", [1.0, 2.0], [2.0, 2.0], bar=at_most(1))]}
    found = json.loads(document(Effort(2), {"load": 0.0}, rows))
    assert (found["schema_version"], found["runs"], found["quick"]) == (1, 2, False)
    (only,) = found["rows"]
    assert (only["part"], only["name"], only["values"]) == ("memory", "x", [1.0, 2.0])
    assert only["bar"] == {"of": "ours", "limit": "at most", "value": 1}
    assert only["met"] is False


def test_the_interval_of_a_median_is_that_of_the_binomial() -> None:
    assert median_interval([1.0] * 5) is None  # the least and greatest of 5 hold it in 93.75 %
    assert median_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]) == (1.0, 6.0)
    assert median_interval([float(n) for n in range(10)]) == (1.0, 8.0)
    assert median_interval([float(n) for n in range(20)]) == (5.0, 14.0)


@pytest.mark.parametrize(
    ("ratios", "no_more", "no_less"),
    [
        ([0.9] * 6, True, False),
        ([1.1] * 6, False, True),
        ([0.9, 1.1] * 3, True, True),  # chance
        ([1.5] * 5, None, None),  # too few to tell
    ],
)
def test_a_loss_is_one_that_chance_does_not_explain(
    ratios: list[float], no_more: bool | None, no_less: bool | None
) -> None:
    references = [10.0 * (n + 1) for n in range(len(ratios))]
    values = [ratio * each for ratio, each in zip(ratios, references, strict=True)]
    assert paired_row("x", "ms", values, references, bar=NO_MORE).met is no_more
    found = paired_row("x", "ms", values, references, bar=NO_LESS)
    assert found.met is no_less
    assert found.ratio == pytest.approx(sum(sorted(ratios)[2:4]) / 2 if len(ratios) > 5 else 1.5)


def test_another_checkout_and_its_part_need_one_another(tmp_path: Path) -> None:
    for path, wanted in ((None, {"against": ["main-job"]}), (tmp_path, {"memory": ["lines"]})):
        with pytest.raises(UsageError, match="need one another"):
            check_against(path, wanted)
    with pytest.raises(UsageError, match=r"no \.venv/bin/pageferry.*set up"):
        check_against(tmp_path, {"against": ["main-job"]})
