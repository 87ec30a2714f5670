"""What README and docs have to say, and figures of theirs that can be calculated anew."""

from __future__ import annotations

import re

import pytest

from tests.support.command_line import CHECKOUT, pageferry

README = "README.md"


def text(name: str) -> str:
    """Of a file of the checkout, on one line; empty where there is none."""
    file = CHECKOUT / name
    return " ".join(file.read_text("utf-8").split()) if file.exists() else ""


@pytest.mark.parametrize("name", ["docs/convergence.md", "common/strategy/converge.py"])
def test_high_periods_of_qemu_need_not_be_in_a_row(name: str) -> None:
    assert re.search(r"QEMU's two (high periods )?need not be in a row", text(name))


class TestWhereItRuns:
    def test_wheels_of_all_that_is_needed(self) -> None:
        """A script looks, outside of the tests, and its result stands there with its date."""
        page = text("docs/platforms.md")
        assert re.search(r"`scripts/check_wheels` .* On 20\d\d-\d\d-\d\d", page)
        assert "3.11 aarch64" in page
        assert (CHECKOUT / "scripts/check_wheels").exists()
        assert "check_wheels" not in text("scripts/test")
        project = text("pyproject.toml")
        needed = re.search(r" dependencies = \[(.*?)\]", project)
        assert needed is not None
        for each in re.findall(r'"([^"]+)"', needed[1]):
            assert f"| `{each.partition(';')[0]}` |" in page

    def test_pythons_that_were_tried(self) -> None:
        project = text("pyproject.toml")
        for minor in (11, 12, 13):
            assert f'"Programming Language :: Python :: 3.{minor}"' in project
        assert "3.14 has not been tried" in text("docs/platforms.md")


def test_the_guide_says_what_lackey_loses() -> None:
    page = text("docs/traces.md")
    assert re.search(r"`rep movsb` and `rep stosb`.* are an access a \*?byte", page)
    assert "--log-file=trace.%p" in page


@pytest.mark.parametrize("name", ["DuckDB", "pandas", "polars"])
def test_how_results_are_loaded(name: str) -> None:
    assert name in text("docs/results.md")


def simulated_rows() -> list[tuple[str, float, float]]:
    """Of README's table of lines a visit: `lines=…`, ms of downtime, GB on the wire."""
    rows = re.findall(
        r"^\| `(lines=\S+)`[^|]*\|[^|]*\| ([\d.]+) ms \|[^|]*\| ([\d.]+) GB \|",
        (CHECKOUT / README).read_text("utf-8"),
        re.MULTILINE,
    )
    return [(lines, float(downtime), float(wire)) for lines, downtime, wire in rows]


class TestLinesOfRealGuests:
    def test_readme_says_that_one_line_is_the_least(self) -> None:
        said = text(README)
        assert "One line a page is the least that a guest can change" in said
        assert "`zero-share=50%,entropy=40%`" in said

    def test_what_it_shows_beside_the_headline_is_what_comes_out(self) -> None:
        rows = simulated_rows()
        assert {"lines=1", "lines=13", "lines=64"} < {lines for lines, _, _ in rows}
        assert any(lines.startswith("lines=mix:") for lines, _, _ in rows)
        for lines, downtime_ms, wire_gb in rows:
            load = f"zipf:working-set=30%,rate=200MB/s,{lines}"
            run = pageferry(
                "simulate", "--max-bandwidth", "100MB/s", "--workload", load, "--json", "-"
            )
            assert run.exit_code == 0, run.stderr
            assert run.json["downtime_ms"] == pytest.approx(downtime_ms, rel=0.05), lines
            assert run.json["bytes_on_wire"] == pytest.approx(wire_gb * 1e9, rel=0.01), lines

    @pytest.mark.parametrize("pattern", ["uniform", "zipf", "sequential"])
    def test_a_prediction_plays_them(self, pattern: str) -> None:
        load = f"{pattern}:working-set=30%,rate=20MB/s,lines=mix:gcc"
        options = ("--memory", "16MiB", "--warmup", "100ms", "--measure", "100ms")
        run = pageferry("predict", *options, "--workload", load, "--json", "-")
        assert run.exit_code == 0, run.stderr
        assert run.json["config"]["workload"] == load
