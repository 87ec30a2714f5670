"""The page in a real browser, with no network: every picture draws, in light and in dark."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pageferry.common.html import render, render_one
from pageferry.common.html.page import draw_run
from pageferry.common.report.schema import EventReport, Report
from pageferry.sweeps.parquet import to_parquet
from tests.support import chromium, sweep_tables
from tests.support.chromium import Browser
from tests.support.every_report import completed, failed, full_report
from tests.support.harness import pageferry

pytestmark = pytest.mark.skipif(
    chromium.FOUND is None, reason="there is no chromium (Debian: apt-get install chromium)"
)
HOSTILE = "<img src=x onerror=\"document.title='hit'\"><script>document.title='hit'</script>"
VISIBLE = "[...document.querySelectorAll('.plot')].filter(box => box.checkVisibility())"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium.browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(autouse=True)
def quiet(browser: Browser) -> Iterator[None]:
    """Whatever a test does: the console stays empty, and nothing is asked of a network."""
    browser.complaints.clear()
    browser.requests.clear()
    yield
    browser.run("0")  # what was said until now has been read
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []


def write(folder: Path, text: str) -> Path:
    file = folder / "page.html"
    file.write_text(text)
    return file


def all_drawn(browser: Browser) -> list[str]:
    """Waits until each picture that can be seen is there; their names."""
    browser.until(f"{VISIBLE}.every(box => box.dataset.drawn === 'yes')")
    # Lines, bars, points or cells: an empty frame has none of them.
    marks = "box.querySelectorAll('.scatterlayer path, .bars path, .hm image').length"
    found = browser.run(f"{VISIBLE}.map(box => [box.dataset.key, {marks}])")
    assert [name for name, count in found if count == 0] == []
    return [name for name, _ in found]


def ink(browser: Browser, *, instead_of: str | None = None) -> str:
    """The colour in which the first picture writes, once it is another one: it is drawn anew."""
    script = "getComputedStyle(document.querySelector('.xtick text')).fill"
    if instead_of is not None:
        browser.until(f"{script} !== {json.dumps(instead_of)}")
    found: str = browser.run(script)
    return found


def test_every_picture_in_light_and_in_dark(browser: Browser, tmp_path: Path) -> None:
    report = full_report()
    file = write(tmp_path, render_one(report))
    seen: dict[bool, str] = {}
    browser.open(file)
    for dark in (False, True):
        browser.look(dark=dark)
        assert set(all_drawn(browser)) == {p.key for p in draw_run(report) if p.figure}
        seen[dark] = ink(browser, instead_of=seen.get(False))
        text = browser.run("document.body.innerText")
        for picture in draw_run(report):
            assert picture.title in text
            assert picture.look in text
    assert seen[False] != seen[True]
    browser.run("document.getElementById('theme').click()")  # the toggle, from dark to light
    browser.until("document.getElementById('theme').textContent === 'Dark'")
    assert ink(browser, instead_of=seen[True]) == seen[False]


def test_a_picture_is_saved_as_svg(browser: Browser, tmp_path: Path) -> None:
    runs = [completed(), full_report(), full_report(downtime_ms=80.0)]
    names = ["pre-copy", "b & <c>", "b & <c>"]
    text = render(runs, title="three", labels=["a", "b1", "b2"], cases=names)
    browser.open(write(tmp_path, text), dark=True)
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    assert browser.run("document.querySelectorAll('button.save:not([hidden])').length") >= 3
    browser.run("document.querySelector('[data-name=compared-downtimes]').click()")
    saved = tmp_path / "compared-downtimes.svg"
    deadline = time.monotonic() + 60
    while not saved.exists() and time.monotonic() < deadline:
        browser.run("new Promise((resume) => setTimeout(resume, 20))")
    root = ElementTree.fromstring(saved.read_text("utf-8"))  # noqa: S314 - our own page made it
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = "".join(root.itertext())
    assert "Downtime" in words
    assert "b & <c>" in words
    assert "var(--" not in saved.read_text("utf-8")


def test_the_page_is_not_wider_than_a_phone(browser: Browser, tmp_path: Path) -> None:
    table = {"title": "t", "columns": ["a long name"] * 15, "rows": [["value"] * 15], "left": 1}
    text = render(
        [full_report(), failed()], title="w" * 200, labels=["x" * 100, "b"], tables=[table]
    )
    browser.open(write(tmp_path, text), width=400)
    browser.run("document.querySelector('details.run').open = true")
    all_drawn(browser)
    assert browser.run("document.documentElement.scrollWidth <= 400")


def test_several_runs_open_on_demand(browser: Browser, tmp_path: Path) -> None:
    text = render(
        [completed(), failed(), full_report()], title="three", labels=["a", "b", "c"], notes=["n"]
    )
    browser.open(write(tmp_path, text))
    assert all_drawn(browser) == ["downtimes", "totals", "against"]
    browser.run("document.querySelectorAll('details.run')[1].open = true")
    shown = browser.run("document.querySelectorAll('details.run')[1].innerText")
    assert "The migration failed: the destination has gone." in shown
    browser.run("document.querySelectorAll('details.run')[2].open = true")
    browser.run("document.querySelectorAll('details.run')[2].scrollIntoView()")
    assert "latency" in all_drawn(browser)


def test_what_is_hostile_runs_nowhere(browser: Browser, tmp_path: Path) -> None:
    report = full_report(error=HOSTILE, strategy=HOSTILE)
    report.decisions[0].reason = HOSTILE
    report.events = [
        EventReport.model_validate({"t_ms": 1, "agent": "dest", "event": HOSTILE, HOSTILE: HOSTILE})
    ]
    labels = [HOSTILE, HOSTILE + "2"]
    text = render([report, report], title=HOSTILE, labels=labels, notes=[HOSTILE])
    browser.open(write(tmp_path, text))
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    all_drawn(browser)
    browser.until("document.querySelector('.events tbody tr')")
    assert HOSTILE in browser.run("document.querySelector('.events tbody').innerText")
    assert HOSTILE in browser.run("document.title")
    assert browser.run("document.querySelectorAll('img, .plot a').length") == 0


def many_events(count: int) -> Report:
    """Of two kinds, every tenth of the rarer one."""
    report = completed()
    report.events = [
        EventReport.model_validate(
            {"t_ms": n / 8, "agent": "dest", "event": "pushed" if n % 10 else "fault", "page": n}
        )
        for n in range(count)
    ]
    return report


def test_events_are_paged_and_filtered(browser: Browser, tmp_path: Path) -> None:
    browser.open(write(tmp_path, render_one(many_events(120_000))))
    browser.run("document.querySelector('.events details').open = true")
    browser.until("document.querySelector('.events tbody tr')")

    def place() -> Any:
        return browser.run("document.querySelector('.place').textContent")

    def ask(**values: str) -> None:
        browser.run(
            f"Object.entries({json.dumps(values)}).forEach(([name, value]) => {{"
            "  const input = document.querySelector('.filter').elements[name];"
            "  input.value = value;"
            "  input.dispatchEvent(new Event('input', {bubbles: true}));"
            "})"
        )
        browser.until("/of|match/.test(document.querySelector('.place').textContent)")

    first = "document.querySelector('.events tbody tr').innerText.split(/\\s+/).join(' ')"
    assert place() == "1–100 of 120,000"
    browser.run("document.querySelector('[data-go=last]').click()")
    assert place() == "119,901–120,000 of 120,000"
    assert browser.run(first) == "14987.500 dest fault page=119900"
    ask(event="fault")
    assert place() == "1–100 of 12,000 of 120,000 that match"
    ask(text="page=11999")
    assert browser.run(first) == "14998.750 dest fault page=119990"
    ask(text="", to="100")
    assert place() == "1–81 of 81 of 120,000 that match"
    ask(agent="source")
    assert place() == "no event matches"


def test_paper_is_light_and_has_the_pictures(browser: Browser, tmp_path: Path) -> None:
    browser.open(write(tmp_path, render_one(full_report())), dark=True)
    all_drawn(browser)
    dark = ink(browser)
    browser.run("dispatchEvent(new Event('beforeprint'))")
    light = ink(browser, instead_of=dark)
    assert light != dark
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert ink(browser, instead_of=light) == dark


def test_the_page_of_a_sweep_draws_maps_and_curves(browser: Browser, tmp_path: Path) -> None:
    """Two maps and two curves, and no run of its own: drawn and explained in light and in dark."""
    file, page = tmp_path / "results.parquet", tmp_path / "sweep.html"
    file.write_bytes(to_parquet(sweep_tables.run(sweep_tables.PLAN + "cache = ['0', '1MiB']\n")[0]))
    run = pageferry(
        *("sweep", "show", str(file), "--html", str(page)),
        *("--x", "max-bandwidth", "--y", "workload.rate"),
    )
    assert run.exit_code == 0, run.stderr
    browser.open(page)
    seen: dict[bool, str] = {}
    for dark in (False, True):
        browser.look(dark=dark)
        assert all_drawn(browser) == ["best0", "best1", "curve0", "curve1"]
        seen[dark] = ink(browser, instead_of=seen.get(False))
    assert seen[False] != seen[True]
    text = browser.run("document.body.innerText")
    assert text.count("Look for the border where the colour changes") == 2
    assert text.count("Look for the strategies whose downtime stays low there") == 2
    words = "[...document.querySelectorAll('.plot text')].map(each => each.textContent)"
    assert browser.run(words).count("pre-copy4 ms") == 4
    assert browser.run(words).count("stop-and-copy50 ms") == 4
    browser.look(dark=False, width=400)
    browser.until("document.documentElement.scrollWidth <= 400")


def test_the_page_of_a_real_migration_draws_everything(browser: Browser, tmp_path: Path) -> None:
    page, document = tmp_path / "run.html", tmp_path / "run.json"
    run = pageferry(
        *("migrate", "--memory", "16MiB", "--workload", "uniform:working-set=50%,rate=40MB/s"),
        *("--strategy", "hybrid", "--postcopy-after", "rounds=1", "--downtime-limit", "1ms"),
        *("--warmup", "200ms", "--run-after", "200ms", "--count-writes", "--trace-faults"),
        *("--json", str(document), "--html", str(page)),
    )
    assert run.exit_code == 0, run.stderr
    browser.open(page)
    assert {"speed", "stop", "downtime", "rounds", "heat", "cache", "missing"} <= set(
        all_drawn(browser)
    )
    again = tmp_path / "again.html"
    assert pageferry("report", str(document), "--html", str(again)).exit_code == 0
    assert again.read_text() == page.read_text()
