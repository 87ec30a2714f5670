"""`python -m scripts.docs_workloads`: docs/workloads.md, of what workloads say of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pageferry.common.workload.mixes import BINS, MIXES
from pageferry.common.workload.registry import WORKLOADS
from pageferry.common.workload.spec import Spec

PAGE = Path(__file__).resolve().parents[1] / "docs/workloads.md"

INTRODUCTION = """\
# Workloads

<!-- Made by `python -m scripts.docs_workloads` of common/workload/: change it there. -->

`--workload NAME[:key=value,...]` says what the guest does:

```sh
pageferry workload list                # what stands here; --json - for programs
pageferry workload show zipf
pageferry migrate --workload zipf:working-set=30%,rate=40MB/s,lines=mix:redis
```

A name, a key or a value that does not exist is answered with those that do, before anything is
compiled.

The guest is deterministic: seed and step count determine every byte, whatever the strategy, the
cache or the link did. Each vCPU has its own part of memory and does the same there; what is said
of all of memory, or of a rate, is divided among them.
"""

MIXTURES = """\
## How many lines a visit writes

`lines=N` writes the same number of 64-byte lines at each visit of a page, `lines=1` by default
where pages are visited at random. That is the least that a page can change by, and what favours
pageferry's lines most: real programs change more. `lines=mix:NAME` writes as many lines as a real
guest was measured to change, another number at each visit:

"""

MEASURED = """
Pages of the real guest in which so many lines had changed, of all that had changed. `mix:NAME`
visits with these shares, 256 visits having each as often as that; a visit of a page writes lines
from the same first one on, so that a page that is visited again is changed by no more lines than
the longest of its visits (with `scatter=true`: from any line on).

**How that was measured.** Debian 13 (minbase and systemd), kernel 6.12.117, one vCPU, 512 MiB, no
transparent huge pages, under QEMU 7.2.22 with TCG. The guest was stopped and all of its memory
saved (`pmemsave`); it ran on for 100 ms of its own time, was stopped, and saved again. Counted
are 64-byte lines whose content differs, so that what was overwritten with the same value is not
seen. TCG makes a guest 10 to 30 times slower, so these figures say nothing of how many pages
change in a second, only of what changes in a page. dd and python ran beside a gcc that had not
ended. Where a page is written again its lines add up: of redis 9.8 lines a page had changed after
100 ms, 15.5 after 300 ms, 20.7 after 1 s; of gcc 5.9, 10.3 and 31.9.

## What memory holds

Of a page that is not zero at the start (`zero-share`), a share is random (`entropy`) and the rest
is one word over and over. By default all of it is random, which no compression shrinks.
`zero-share=50%,entropy=40%` is about what a small real guest looks like: in the one above 31 to
70 % of all pages were zero, 50 % under redis or sqlite, and pages that were not shrank by 1.9 to
2.7 : 1 each by itself (zstd, level 1), by 2.3 under redis, 2.6 idle.
"""


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """Of Markdown; a bar within a cell is escaped."""
    marks = [
        "--:" if at < len(align) and align[at] == "r" else "---" for at in range(len(headings))
    ]
    lines = [headings, marks, *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def section(spec: Spec) -> str:
    """What a workload says of itself."""
    text = f"## `{spec.name}`: {spec.models}\n\n{spec.about} A step is {spec.step}.\n\n"
    if not spec.options:
        return text + "It has no options.\n"
    rows = [
        (
            f"`{key}`",
            f"`{option.default}`" if option.default else "",
            option.reader.form,
            option.reader.unit,
            option.reader.range,
            option.meaning,
        )
        for key, option in spec.options.items()
    ]
    return text + table(("key", "default", "written", "unit", "range", "meaning"), rows)


def mixtures() -> str:
    """What was measured."""
    bins = [str(low) if low == high else f"{low}–{high}" for low, high in BINS]
    rows = []
    for mix in MIXES.values():
        whole = sum(mix.pages)
        shares = [f"{100 * pages / whole:.1f} %" for pages in mix.pages]
        rows.append((f"`{mix}`", mix.load, f"{mix.mean:.1f}", f"{mix.median:g}", *shares))
    headings = ("lines=", "what ran", "mean", "median", *bins)
    return table(headings, rows, "ll" + "r" * (len(headings) - 2))


def page() -> str:
    """All of it."""
    listed = table(
        ("name", "models"),
        [(f"[`{s.name}`](#{anchor(s)})", s.models) for s in WORKLOADS.values()],
    )
    sections = [section(spec) for spec in WORKLOADS.values()]
    return "\n".join((INTRODUCTION, listed, *sections, MIXTURES + mixtures() + MEASURED))


def anchor(spec: Spec) -> str:
    """As the heading's is made: small letters, hyphens for blanks, nothing else."""
    heading = f"{spec.name}: {spec.models}".lower()
    kept = "".join(each for each in heading if each.isalnum() or each in " -_")
    return kept.replace(" ", "-")


def main() -> None:
    """Write it."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
