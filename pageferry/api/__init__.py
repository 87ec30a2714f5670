"""The Python API: what the commands do, as functions that return reports.

    >>> import pageferry
    >>> report = pageferry.migrate(memory="64MiB", workload="zipf:rate=40MB/s")
    >>> report.downtime_ms, report.rounds[-1].bytes

`jobs` makes of keywords what is to be done, and is where mistakes in them are said. `running` does
it on a thread of its own, so that the caller's thread only waits, is told, and can ask it to end:
the same for `functions`, which block, and for `pageferry.aio`, which awaits. `options` is made by
`python -m scripts.api_options` of the models that make the command line.
"""
