"""The page as text: what it says, and that nothing of a report is more than text."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from plotly.offline import get_plotlyjs

from pageferry.common import html as package
from pageferry.common.errors import UsageError
from pageferry.common.html import render, render_one
from pageferry.common.html.page import unwrapped
from pageferry.common.html.sentences import verdict
from pageferry.common.report.schema import Report
from tests.support.every_report import completed, failed, full_report, kinds
from tests.support.html_arrays import events_of, figures_of, packed_in

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{7*7}}&"


class Parsed(HTMLParser):
    """Elements, attributes and visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_of_report(kind: str) -> None:
    report = kinds()[kind]
    page = Parsed(render_one(report))
    assert verdict(report) in page.text
    assert report.strategy in page.text
    assert [*figures_of(render_one(report))] or report.outcome != "completed"
    for each in report.decisions:
        assert each.reason in page.text


def test_what_one_run_says() -> None:
    text = " ".join(Parsed(render_one(full_report())).text.split())
    assert "The guest moved in 1.49 s and stood still for 10.00 ms of it." in text
    assert "500 pages out of date (24.4 % of memory)" in text
    assert "a stop now would leave 2 MB and cost 25.00 ms" in text
    assert "path 2, as taken estimate9.00 ms (−10 %)990 ms" in text
    assert "least that any strategy could have done" in text
    assert "the guest wrote 800 lines" in text
    assert "absorbed 90.0 %" in text
    assert "--max-bandwidth100MB/s" in text
    assert "verifiedyes: digest" in text


def test_nothing_is_asked_of_a_network() -> None:
    page = Parsed(render_one(completed()))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "img", "a", "object", "embed")
        assert not {"src", "href", "srcset", "action"} & attributes.keys(), tag
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
    (script,) = [each for each in page.scripts if "use strict" in each]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy


def hostile() -> Report:
    report = full_report(error=HOSTILE, outcome="failed", strategy=HOSTILE)
    report.config |= {"host": HOSTILE, "workload": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}}
    report.config["memory"] = "not a number"
    report.decisions[0].reason = report.decisions[0].decision = HOSTILE
    report.estimates[0].name = HOSTILE
    report.pages.activity[0].phase = HOSTILE if report.pages else ""  # type: ignore[union-attr]
    report.events[0].event = HOSTILE
    assert report.events[1].model_extra is not None
    report.events[1].model_extra[HOSTILE] = HOSTILE
    return report


def test_what_is_hostile_stays_text() -> None:
    table = {"title": HOSTILE, "columns": [HOSTILE], "rows": [[HOSTILE]], "left": 1}
    reports = [hostile(), completed()]
    labels = [HOSTILE, "b"]
    text = render(reports, title=HOSTILE, labels=labels, tables=[table], notes=[HOSTILE])
    harmless = render(reports, title="t", labels=["a", "b"], tables=[table | {"title": "t"}])
    page = Parsed(text)
    assert HOSTILE in page.text
    assert "<img" not in text
    assert "alert(1)</script" not in text
    assert [tag for tag, _ in page.tags].count("script") == len(Parsed(harmless).scripts)
    assert all("onerror" not in attributes for _, attributes in page.tags)
    names = figures_of(text, "compared")["against"]["data"][0]["text"]
    assert "<" not in "".join(names)
    (event,) = [each for each in events_of(packed_in(text, "run0-events")) if each[2] == HOSTILE]
    assert event[1] == "source"  # as it is: the page's script sets it as text


def test_plotly_comes_once() -> None:
    text = render([completed()] * 5, title="t", labels=[str(n) for n in range(5)])
    assert text.count('id="plotly"') == 1
    assert len(text) < 3_000_000


def test_plotly_is_taken_out_of_its_wrapper() -> None:
    code = get_plotlyjs()
    inside = unwrapped(code)
    assert inside.startswith("/**\n* plotly.js v")  # its licence stays
    assert "window.Plotly = Plotly;" in inside[-100:]
    assert len(code) - 500 < len(inside) < len(code)
    assert unwrapped("var Plotly = 1;") == "var Plotly = 1;"


def test_several_runs_begin_with_the_comparison() -> None:
    labels = ["first one", "second one"]
    table = {"title": "as printed", "columns": ["a"], "rows": [["x\ny"]], "left": 0}
    reports = [completed(), failed()]
    text = render(reports, title="t", labels=labels, tables=[table], notes=["a note"])
    shown = Parsed(text).text
    order = ["as printed", "a note", "The runs", "Downtime against bytes", "first one"]
    places = [shown.rindex(each) for each in order]
    assert places == sorted(places)
    assert {"downtimes", "totals", "against"} == figures_of(text, "compared").keys()


def test_no_run_at_all() -> None:
    assert "There is no run to show" in render([], title="t", labels=[])


def test_figures_out_of_range_do_not_break_it() -> None:
    report = completed(downtime_ms=float("inf"), total_time_ms=float("nan"))
    report.guest.timeline[0].steps_per_s = float("nan")
    assert re.search(r"moved in – and stood still for –", render_one(report))


def test_what_is_missing_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "_NEEDED", ("jinja2", "not_there"))
    with pytest.raises(UsageError, match=r"needs not_there: .*pip install not_there"):
        package.check_libraries()
