"""Which configurations a comparison spans, and the table that it prints."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pageferry.cli import make_app
from pageferry.common.command_line.run import run_app
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import UsageError
from pageferry.runs.axes import AXES, CompareOptions, span, varied
from pageferry.runs.comparison import make_sheet
from pageferry.runs.rows import summarise
from pageferry.runs.tables import complaints
from tests.support.plain_reports import attempt, failed


def options(**values: object) -> CompareOptions:
    return CompareOptions.model_validate(values)


class TestAxes:
    def test_every_combination_strategy_first(self) -> None:
        cases, cells = span(options(strategy="pre-copy, three-path", cache="0,4MiB"))
        assert [case.label for case in cases] == [
            "pre-copy, no cache",
            "pre-copy, cache 4MiB",
            "three-path, no cache",
            "three-path, cache 4MiB",
        ]
        assert [case.config.cache for case in cases] == [0, 4 * 2**20] * 2
        assert [cell["strategy"] for cell in cells] == ["pre-copy"] * 2 + ["three-path"] * 2
        assert varied(cells) == ["strategy", "cache"]

    def test_the_rest_is_the_same_for_all(self) -> None:
        cases, _ = span(
            options(strategy="pre-copy,hybrid", memory="64MiB", seed=7, workload="zipf")
        )
        expected = MigrationConfig(memory=64 * 2**20, seed=7, workload="zipf")
        for case in cases:
            assert case.config.model_copy(update={"strategy": expected.strategy}) == expected

    def test_by_default_all_strategies(self) -> None:
        cases, cells = span(options())
        assert len({case.config.strategy for case in cases}) == len(cases) == 7
        assert cases[0].config.strategy == "stop-and-copy"
        assert varied(cells) == ["strategy"]
        assert cases[0].label == "stop-and-copy"

    @pytest.mark.parametrize("name", [name for name in AXES if name != "strategy"])
    def test_defaults_are_those_of_a_migration(self, name: str) -> None:
        cases, _ = span(options(strategy="pre-copy"))
        assert getattr(cases[0].config, name) == MigrationConfig.model_fields[name].default

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"strategy": "pre-copy,,hybrid"}, "empty part"),
            ({"cache": ""}, "empty part"),
            ({"strategy": "hybrid,hybrid"}, "given twice"),
            ({"cache": "4MiB,4096KiB"}, "are the same"),
        ],
    )
    def test_lists_that_make_no_sense(self, values: dict[str, str], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            span(options(**values))

    @pytest.mark.parametrize("values", [{"strategy": "teleport"}, {"cache": "0,3MiB"}])
    def test_all_are_checked_before_one_runs(self, values: dict[str, str]) -> None:
        with pytest.raises(ValidationError):
            span(options(**values))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--strategies", "teleport"), "three-path"),
        (("--cache", "0,3MiB"), "2MiB or 4MiB"),
        (("--cache", "0,lots"), "lots"),
        (("--caches", "0,0"), "given twice"),
        (("--runs", "0"), "--runs"),
        (("--workload", "sleep"), "zipf"),
        (("--html", "-"), "--html"),
        (("--json", "/nonexistent/x.json"), "--json"),
    ],
)
def test_bad_usage_is_one_line(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(make_app(), ["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert named in captured.err
    assert captured.out == ""


def test_the_table_has_a_row_for_each_case() -> None:
    cells = {"strategy": "pre-copy", "cache": "0"}
    rows = [
        summarise("pre-copy, no cache", cells, [attempt(downtime_ms=1384.0)], [0]),
        summarise("lost", cells | {"cache": "4MiB"}, [failed(error="it [broke]")], []),
        summarise(
            "three-path",
            {"strategy": "three-path", "cache": "4MiB"},
            [
                attempt(downtime_ms=553.6, path=2, kinds=("full", "dirty", "drain", "final")),
                attempt(downtime_ms=553.6, path=2, kinds=("full", "dirty", "drain", "final")),
            ],
            [1, 2],
        ),
    ]
    sheet = make_sheet(rows, ["strategy", "cache"], "a title")
    plain, lost, cached = (dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows)
    assert plain["downtime ms"] == "1,384"
    assert plain["path"] == "–"
    assert plain["guest's loss"] == "10.0 %"
    assert plain["verified"] == "yes"
    assert lost["downtime ms"] == "–"
    assert lost["verified"] == "FAILED"
    assert cached["downtime ms"] == "554\n554–554"
    assert sheet.rows[2][sheet.columns.index("downtime ms") + 1] == "0.4"
    assert cached["rounds"] == "4 (1)"
    assert cached["path"] == "2"
    assert complaints(rows) == ["lost: it [broke]"]
