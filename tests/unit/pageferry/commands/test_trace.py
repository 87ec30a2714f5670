"""`pageferry trace import` and `trace info` as a user sees them, in this process."""

from __future__ import annotations

import bz2
import functools
import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pageferry.cli import make_app
from pageferry.common.command_line.run import run_app
from pageferry.common.files.memory_trace import open_trace
from pageferry.trace.lackey import LackeyParser

TEXT = b"""==7== Lackey, an example Valgrind tool
I  0401ab70,3
 L 1fff000778,8
 S 1fff00073c,8
 M 04225ffc,8
 L 1fff000000,4
"""
# Pages 4225, 4226 and 1fff000: 0, 1 and 2.
ITEMS = [
    (2, 29, 0),
    (2, 28, 1),
    (2, 29, 1),
    (0, 63, 0),
    (1, 0, 0),
    (0, 63, 1),
    (1, 0, 1),
    (2, 0, 0),
]

Trace = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Trace:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_bytes(TEXT)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = run_app(make_app(), ["trace", *arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def items_of(path: str) -> list[tuple[int, int, int]]:
    opened = open_trace(path)
    opened.verify()
    return [(item >> 7, item >> 1 & 63, item & 1) for item in opened.accesses.tolist()]


class TestImport:
    @pytest.mark.parametrize(
        "content",
        [TEXT, gzip.compress(TEXT), gzip.compress(TEXT[:50]) + gzip.compress(TEXT[50:])],
        ids=["plain", "gzip", "two gzip members"],
    )
    def test_accesses_in_order_and_pages_by_address(
        self, trace: Trace, tmp_path: Path, content: bytes
    ) -> None:
        (tmp_path / "text").write_bytes(content)
        code, out, err = trace("import", "text", "t.npz")
        assert (code, err) == (0, "")
        assert "8: 4 reads, 4 writes (50.0 %)" in out
        assert "--workload trace:t.npz" in out
        assert items_of("t.npz") == ITEMS
        assert sorted(os.listdir()) == ["t.npz", "text"]
        assert Path("t.npz").stat().st_mode & 0o777 == Path("text").stat().st_mode & 0o777

    def test_instructions_and_the_document(self, trace: Trace) -> None:
        code, out, _ = trace("import", "text", "t.npz", "--instructions", "--json", "-")
        document = json.loads(out)
        assert code == 0
        assert (document["schema_version"], document["file"]) == (1, "t.npz")
        assert document["trace"] == json.loads(open_trace("t.npz").meta.model_dump_json())
        assert document["trace"]["instructions"] is True
        assert document["trace"]["reads"] == 5
        assert document["footprint_bytes"] == 4 * 4096
        assert document["text"] == {
            "lines": 6,
            "instruction_fetches": 1,
            "unknown_lines": 0,
            "trailing_lines": 0,
            "processes": 1,
        }

    def test_limit_keeps_the_first_accesses(self, trace: Trace) -> None:
        assert trace("import", "text", "t.npz", "--limit", "3")[0] == 0
        assert items_of("t.npz") == [(0, line, write) for _, line, write in ITEMS[:3]]

    def test_long_enough_for_several_blocks(self, trace: Trace, tmp_path: Path) -> None:
        pages = np.random.default_rng(1).permutation(150_000).tolist()
        (tmp_path / "text").write_text("".join(f" S {page << 12:08x},1\n" for page in pages))
        assert trace("import", "text", "t.npz", "--quiet")[0] == 0
        np.testing.assert_array_equal(open_trace("t.npz").accesses, np.array(pages) << 7 | 1)

    def test_an_existing_file_is_replaced_by_force_only(self, trace: Trace) -> None:
        Path("t.npz").write_text("precious")
        code, _, err = trace("import", "text", "t.npz")
        assert (code, err) == (2, "pageferry: t.npz is there already: --force replaces it\n")
        assert Path("t.npz").read_text() == "precious"
        Path("text").rename("right")
        Path("text").write_text("wrong\n")
        assert trace("import", "text", "t.npz", "--force")[0] == 2
        assert Path("t.npz").read_text() == "precious"
        Path("link.npz").symlink_to("t.npz")
        assert trace("import", "right", "link.npz", "--force")[0] == 0
        assert Path("link.npz").is_symlink()
        assert items_of("t.npz") == ITEMS

    def test_unknown_lines_are_refused_unless_they_may_be_skipped(self, trace: Trace) -> None:
        Path("text").write_bytes(TEXT + b"total 12\n")
        code, _, err = trace("import", "text", "t.npz")
        assert code == 2
        assert re.search("text, line 7: 'total 12' is neither .*--skip-unknown", err)
        code, out, _ = trace("import", "text", "t.npz", "--skip-unknown")
        assert code == 0
        assert "1 unknown lines skipped" in out
        assert items_of("t.npz") == ITEMS

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "text: it is empty"),
            (b"\n==1== x\n", "text: no accesses in 2 lines: expected .*valgrind --tool=lackey"),
            (b"I  1,1\n", r"no data accesses, 1 instruction fetches \(--instructions\)"),
            (TEXT + b" L 1ff", "line 7: ' L 1ff' .*was it cut off"),
            (b"x" * 10_000_000, "line 1: 'x*'... is longer than 1 MiB"),
            (gzip.compress(TEXT)[:-9], "text: the gzip file ends too early"),
            (gzip.compress(TEXT)[:-8] + bytes(8), "text: the gzip file is damaged: CRC"),
            (b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xff\xff\xff\xff", "text: the gzip file is damaged"),
            (gzip.compress(TEXT) + b"junk", "text: the gzip file is damaged"),
            (b"\x1f\x9dx", "line 1: '"),
            (bz2.compress(TEXT)[:-9], "text: the bzip2 file ends too early: was it cut off"),
            (bytes(range(256)), "line 1: "),
        ],
    )
    def test_one_line_and_nothing_left(self, trace: Trace, content: bytes, says: str) -> None:
        Path("text").write_bytes(content)
        code, out, err = trace("import", "text", "t.npz")
        assert (code, out) == (2, "")
        assert re.fullmatch(f"pageferry: .*{says}.*\n", err), err
        assert err[:-1].isprintable()
        assert os.listdir() == ["text"]

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("nope", "t.npz"), "can't read nope: No such file"),
            ((".", "t.npz"), "can't read .: Is a directory"),
            (("text", "."), "can't write .: it exists and is not a regular file"),
            (("text", "/dev/null", "--force"), "/dev/null: it exists and is not a regular file"),
            (("text", "no/t.npz"), "can't write no/t.npz: No such file"),
            (("text", "x" * 300), "File name too long"),
            (("text", "text", "--force"), "text is the text itself"),
            (("text", ""), "expected a name without a comma"),
            (("text", "a,b.npz"), "expected a name without a comma"),
            (("text", "t.npz", "--limit", "0"), "--limit: .*1"),
            (("text",), "FILE"),
        ],
    )
    def test_a_bad_import_is_one_line_and_writes_nothing(
        self, trace: Trace, arguments: tuple[str, ...], says: str
    ) -> None:
        code, out, err = trace("import", *arguments)
        assert (code, out) == (2, "")
        assert re.fullmatch(f"pageferry: .*{says}.*\n", err), err
        assert os.listdir() == ["text"]
        assert Path("text").read_bytes() == TEXT

    def test_more_pages_than_fit(self, trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
        parser = functools.partial(LackeyParser, most_pages=2)
        monkeypatch.setattr("pageferry.trace.lackey.LackeyParser", parser)
        code, _, err = trace("import", "text", "t.npz")
        assert code == 2
        assert "line 5: ' M 04225ffc,8' would be in page 3, at most 2 fit" in err
        assert os.listdir() == ["text"]


class TestInfo:
    def test_info_prints_what_a_trace_consists_of(self, trace: Trace) -> None:
        trace("import", "text", "t.npz")
        code, out, err = trace("info", "t.npz")
        assert (code, err) == (0, "")
        digest = open_trace("t.npz").meta.digest
        for expected in (f"{digest} (verified)", "3 pages (12.3 kB)", "1/8", "Hottest", "text"):
            assert expected in out
        assert f"{digest} (not verified)" in trace("info", "t.npz", "--no-verify")[1]

    def test_info_as_json_has_the_same_figures(self, trace: Trace) -> None:
        trace("import", "text", "t.npz")
        code, out, _ = trace("info", "t.npz", "--json", "-")
        document = json.loads(out)
        assert code == 0
        assert document["verified"] is True
        assert document["trace"]["pages"] == 3
        assert (document["lines"], document["pages_written"]) == (5, 3)
        assert [part["new_pages"] for part in document["parts"]] == [1, 0, 0, 1, 1, 0, 0, 0]
        hottest = document["hottest"][0]
        assert hottest == {"page": 2, "accesses": 4, "writes": 2, "share": 0.5}
        out = trace("info", "t.npz", "--no-verify", "--json", "-")[1]
        assert json.loads(out)["verified"] is None

    def test_a_damaged_trace_is_refused(self, trace: Trace) -> None:
        trace("import", "text", "t.npz")
        raw = Path("t.npz").read_bytes()
        at = raw.index(open_trace("t.npz").accesses.tobytes())
        Path("t.npz").write_bytes(raw[: at + 3] + b"\xff" + raw[at + 4 :])
        code, _, err = trace("info", "t.npz")
        assert code == 2
        assert "not those that were written" in err
        code, _, err = trace("info", "t.npz", "--no-verify")
        assert code == 2
        assert "it has more pages than it says" in err

    @pytest.mark.parametrize(
        ("name", "says"), [("nope", "No such file"), ("text", "is no trace: expected a file made")]
    )
    def test_what_is_no_trace_is_refused_in_one_line(
        self, trace: Trace, name: str, says: str
    ) -> None:
        code, out, err = trace("info", name)
        assert (code, out) == (2, "")
        assert re.fullmatch(f"pageferry: .*{says}.*\n", err)

    def test_a_source_that_would_write_to_the_terminal(self, trace: Trace) -> None:
        Path("\x1b[31m").write_bytes(TEXT)
        trace("import", "\x1b[31m", "t.npz")
        assert r"'\x1b[31m'" in trace("info", "t.npz")[1]
