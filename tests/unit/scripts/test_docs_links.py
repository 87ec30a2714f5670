"""Links and headings of Markdown."""

from __future__ import annotations

import pytest

from scripts.docs_links import Link, anchors, links, relinked, slug, unescaped

TEXT = """\
# A `page`: one

[one](a.md#b-c), ![two](images/x.png "as a picture") and [itself](#a-page-one).
Not `[code](no.md)`, ``[`code`](no.md)``, nor [elsewhere](https://example.org/a.md#b).

```sh
# no heading
[no](no.md)
```

## Twice
## Twice
"""


def test_links_are_found_in_prose_only() -> None:
    assert list(links(TEXT)) == [
        Link(3, "a.md", "b-c"),
        Link(3, "images/x.png", ""),
        Link(3, "", "a-page-one"),
    ]


def test_headings_have_the_anchors_of_a_code_host() -> None:
    assert anchors(TEXT) == {"a-page-one", "twice", "twice-1"}


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        (
            "`matrix-multiply`: C = A · B as rank-1 updates",
            "matrix-multiply-c--a--b-as-rank-1-updates",
        ),
        ("When it's [linked](x.md), too_", "when-its-linked-too_"),
    ],
)
def test_an_anchor_keeps_letters_digits_and_hyphens(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def test_links_are_changed_and_nothing_else_is() -> None:
    changed = relinked(TEXT, lambda path, anchor: f"<{path}|{anchor}>")
    assert changed == TEXT.replace("a.md#b-c", "<a.md|b-c>").replace(
        "images/x.png", "<images/x.png|>"
    ).replace("(#a-page-one)", "(<|a-page-one>)")


def test_bars_in_the_code_of_tables_stand_as_they_are() -> None:
    text = "| `a\\|b` | c\\|d |\n\n`a\\|b`\n"
    assert unescaped(text) == "| `a|b` | c\\|d |\n\n`a\\|b`\n"
