"""The site of guides and API reference: built as `scripts/docs` does, and then looked at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pytest

import pageferry
from tests.support import chromium

PROJECT: Final = Path(__file__).parents[2]
BUILD_S: Final = 100.0
MISSING: Final = [name for name in ("mkdocs", "material", "mkdocstrings") if not find_spec(name)]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"{', '.join(MISSING)} not installed: pip install '.[docs]'"
)


class Html(HTMLParser):
    """What a page refers to, and what can be referred to in it.

    links: of `<a>`, followed by a reader; loaded: fetched by a browser when the page is opened.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what it names."""
        given = {name: value for name, value in attributes if value is not None}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        target = given.get("href", given.get("src"))
        if target is not None and given.get("rel") not in ("canonical", "prev", "next"):
            (self.links if tag == "a" else self.loaded).add(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=PROJECT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    """Each page but the one of errors, which is served at any address."""
    return {file: Html(file) for file in site.rglob("*.html") if file.name != "404.html"}


def test_every_link_of_the_site_leads_somewhere(site: Path, pages: dict[Path, Html]) -> None:
    broken = {
        f"{file.relative_to(site)}: {target}"
        for file, page in pages.items()
        for target in page.links | page.loaded
        if not _elsewhere(target) and not _there(file, target, pages)
    }
    assert broken == set()
    assert len(pages) > 40


def _elsewhere(target: str) -> bool:
    return bool(urlsplit(target).scheme or urlsplit(target).netloc)


def _there(file: Path, target: str, pages: dict[Path, Html]) -> bool:
    parts = urlsplit(target)
    there = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if parts.fragment and there in pages:
        return unquote(parts.fragment) in pages[there].ids
    return there.is_file()


def test_every_public_name_has_its_entry(pages: dict[Path, Html]) -> None:
    entries = {
        name for file, page in pages.items() for name in page.ids if file.parent.name == "reference"
    }
    fixtures = ("migrate", "dest", "hosts", "link")
    expected = {
        *(f"pageferry.{name}" for name in pageferry.__all__),
        *(f"pageferry.aio.{name}" for name in pageferry.aio.__all__),
        *(f"pageferry.pytest_plugin.pageferry_{name}" for name in fixtures),
        *(
            f"pageferry.pytest_plugin.{name}"
            for name in ("Migrate", "Destination", "Hosts", "Link")
        ),
    }
    assert expected - entries == set()


def test_every_guide_is_a_page(site: Path) -> None:
    missing = [
        guide.name
        for guide in (PROJECT / "docs").glob("*.md")
        if not (site / f"{guide.stem}.html").is_file()
    ]
    assert missing == []
    assert "Two commands" in (site / "index.html").read_text("utf-8")


def test_nothing_is_fetched_from_elsewhere_and_no_place_of_this_machine_is_told(
    site: Path, pages: dict[Path, Html]
) -> None:
    assert {each for page in pages.values() for each in page.loaded if _elsewhere(each)} == set()
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", style.read_text("utf-8")), style
    for file in pages:
        assert str(PROJECT) not in file.read_text("utf-8"), file


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[chromium.Browser]:
    if chromium.FOUND is None:
        pytest.skip("there is no chromium (Debian: apt-get install chromium)")
    with chromium.browser(tmp_path) as running:
        yield running


def test_it_is_read_and_searched_in_a_folder(site: Path, browser: chromium.Browser) -> None:
    """Opened as a file, without a server or a network."""
    browser.open(site / "reference" / "functions.html")
    browser.run(
        "(() => { const field = document.querySelector('[data-md-component=search-query]');"
        " field.focus(); field.value = 'auto-converge';"
        " field.dispatchEvent(new Event('keyup')); })()"
    )
    browser.until("document.querySelector('.md-search-result__link[href*=convergence]') !== null")
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
