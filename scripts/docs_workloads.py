"""`python -m scripts.docs_workloads`: docs/workloads.md, of what workloads say of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pageferry.common.config.guest import GuestConfig
from pageferry.common.strategy.conditions import Stale
from pageferry.common.units import PAGE_SIZE
from pageferry.common.workload.mixes import BINS, MIXES
from pageferry.common.workload.registry import WORKLOADS
from pageferry.common.workload.spec import Spec
from pageferry.sim.workloads import working_set

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


DEFAULTS = """\
## What the defaults are like

What each workload writes by default within a time, of a 512 MiB guest without a cache, in virtual
time; and the working set that this comes to, there and in a guest of 1 GiB. Beside it what
[real programs and guests](paper-results.md#real-programs-and-guests) wrote that were measured:
programs within up to 20 million accesses, guests within 1 to 10 s of an emulated machine, so that
their working sets are lower ends. No default depends on the guest's cache.

**Where they are unlike anything measured:** working sets, which are shares of memory. All but those
of `idle` and `web-browsing` are larger than any that was measured. And lines: `game-server`,
`uniform` and `zipf` write one line of a page, the least there is; the real ones came near that only
within short windows. `lines=mix:NAME`, `lines=N` and `working-set=SIZE` have it otherwise.

"""

# Judged by hand, of what stands beside it and of what was measured.
JUDGED = {
    "idle": "less than anything: an idle Linux wrote 131 pages in 0.1 s, 4.7 lines of each",
    "web-browsing": "nothing like it was measured. Whole pages, as a bitmap is drawn; sort wrote"
    " such, of 4 MiB",
    "matrix-multiply": "whole pages, as sort wrote of 4 MiB, gzip of 0.4 MiB: none so many",
    "game-server": "unlike any: one line each of very many pages, the extreme in which lines on the"
    " wire do most. The nearest are xz (a hash table of 14 MiB at random: 2 to 7 lines of a page,"
    " half of the pages at most 3) and python (a dict, 4 MiB: 1.4 lines within 100,000 accesses,"
    " but others each time: 31 within 20 million)",
    "io-intensive": "like the guests with dd and with tar and gzip, which wrote 57 lines of each of"
    " 5,000 to 7,000 pages in 1 s",
    "memory-intensive": "an upper end, unlike any: whole pages of half of memory. sort wrote whole"
    " pages of 4 MiB; the guest with python wrote most, 17 lines of each of 16,107 pages in 1 s",
    "uniform": "one line of a page, of all memory: unlike any. The nearest are xz and"
    " python, as above, in a few MiB",
    "zipf": "one line of a page, of all memory: unlike any. What has skewed keys in a"
    " large table would be its like; none of these had",
    "sequential": "an upper end, unlike any: whole pages of all of memory. In kind it is dd, which"
    " wrote 57 lines of each of 6,974 pages in 1 s, or sort",
}
GUESTS = (512 * 2**20, 2**30)
TIMES_S = (0.1, 1.0)  # of the first of them
END_S = 100.0  # until when working sets have been written


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


def written(name: str, memory: int, seconds: float) -> Stale:
    """What a workload writes by default within a time, without a cache."""
    guest, _ = working_set(GuestConfig(workload=name, memory=memory, cache=0), by_line=True)
    return guest.stale(0.0, seconds)


def defaults() -> str:
    """What each workload writes by default, and what that is like."""
    rows = []
    for name, said in JUDGED.items():
        cells = []
        for seconds in TIMES_S:
            stale = written(name, GUESTS[0], seconds)
            cells += [f"{stale.pages:,.0f}", f"{stale.lines / stale.pages:.1f}"]
        for memory in GUESTS:
            size = written(name, memory, END_S).pages * PAGE_SIZE / 2**20
            cells.append(f"{size:,.0f} MiB" if size >= 1 else "1 page")
        rows.append((f"`{name}`", *cells, said))
    headings = (
        *("name", *(f"{n}, {t:g} s" for t in TIMES_S for n in ("pages", "lines"))),
        *("working set of 512 MiB", "of 1 GiB", "beside what was measured"),
    )
    return table(headings, rows, "lrrrrrrl")


def page() -> str:
    """All of it."""
    listed = table(
        ("name", "models"),
        [(f"[`{s.name}`](#{anchor(s)})", s.models) for s in WORKLOADS.values()],
    )
    sections = [section(spec) for spec in WORKLOADS.values()]
    return "\n".join(
        (INTRODUCTION, listed, *sections, MIXTURES + mixtures() + MEASURED, DEFAULTS + defaults())
    )


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
