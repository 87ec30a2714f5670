"""How large the page of a run with 10^6 events is, and how long Chromium takes to open it.

    .venv/bin/python scripts/bench_html.py [EVENTS]

Prints sizes, the seconds that it took to make the page, and from the navigation's start, by the
page's own clock: until it was loaded, until the first picture was drawn, and until the table of
events stood there after it had been asked for.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pageferry.common.html import render_one
from pageferry.common.report.schema import EventReport, Report
from pageferry.common.report.sections.postcopy import FaultTrace
from tests.support import chromium
from tests.support.every_report import full_report


def long_report(count: int) -> Report:
    """Faults as they are: irregular in time, anywhere in memory, of any length."""
    chance = random.Random(1)  # noqa: S311 - no secret
    report = full_report()
    t_ns = 0
    trace = (report.postcopy.trace if report.postcopy else None) or []
    for _ in range(count):
        t_ns += chance.randrange(1_000, 40_000)
        page, us = chance.randrange(262_144), round(chance.lognormvariate(3.5, 0.8), 3)
        fields = {"page": page, "us": us, "vcpu": chance.randrange(4)}
        report.events.append(
            EventReport.model_validate(
                {"t_ms": t_ns / 1e6, "agent": "dest", "event": "fault", **fields}
            )
        )
        trace.append(FaultTrace(t_ms=t_ns / 1e6, us=us, page=page, vcpu=0))
    return report


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    report = long_report(count)
    begin = time.monotonic()
    page = render_one(report)
    print(f"{count:,} events: {len(page) / 1e6:.2f} MB, made in {time.monotonic() - begin:.1f} s")
    if chromium.FOUND is None:
        print("there is no chromium to open it with")
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "page.html"
        file.write_text(page)
        with chromium.browser(Path(folder) / "profile") as browser:
            browser.open(file)
            browser.until("document.querySelector('.plot[data-drawn]')")
            now = "performance.now() / 1000"
            first = browser.run(now)
            loaded = browser.run(
                "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
            )
            shown = "[...document.querySelectorAll('.plot')].every(p => p.dataset.drawn)"
            browser.until(shown)
            every = browser.run(now)
            browser.run("document.querySelector('.events details').open = true")
            begin = time.monotonic()
            browser.until("document.querySelector('.events tbody tr')")
            table = time.monotonic() - begin
            print(f"loaded {loaded:.2f} s, first picture {first:.2f} s, all {every:.2f} s")
            print(f"the table of events {table:.2f} s after it was asked for")


if __name__ == "__main__":
    main()
