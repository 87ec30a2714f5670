"""Migrate a live guest from Python: watch it, read its report, and meet what can go wrong.

    python examples/migrate.py                            # exit code 0
    python examples/migrate.py source/after-round-1:cut   # every connection breaks there: 1
    python examples/migrate.py nonsense                   # there is no such step: 2

What is given is a fault to inject, so that the errors can be seen; none is needed.
"""

import sys

import pageferry


def show(status: pageferry.Status) -> None:
    """Print a line a moment; what this raises would cancel the migration."""
    if status.notice is not None:  # what the command would say to a person
        print(f"note: {status.notice}", file=sys.stderr)
    elif status.round:
        print(
            f"{status.elapsed_s:5.1f} s  {status.phase}, {status.rate / 1e6:.0f} MB/s",
            file=sys.stderr,
        )


def tell(report: pageferry.Report) -> None:
    """Print what was measured, and why each decision was made."""
    print(f"downtime    {report.downtime_ms:.2f} ms")
    print(f"total time  {report.total_time_ms:.0f} ms")
    for each in report.rounds:
        print(f"round {each.index}     {each.kind:5} {each.pages:6,} pages, {each.bytes:,} bytes")
    for decision in report.decisions:
        print(f"{decision.decision}: {decision.reason}")
    print(f"verified    {report.verified}: digest {report.digest_dest}")


def main(inject: list[str]) -> int:
    """Migrate, and return the exit code that `pageferry migrate` would have."""
    try:
        report = pageferry.migrate(
            memory="32MiB",
            workload="zipf:working-set=50%,rate=20MB/s",
            strategy="pre-copy",
            downtime_limit="50ms",
            max_bandwidth="100MB/s",
            warmup="200ms",
            run_after="200ms",
            inject=inject,
            on_status=show,
        )
    except pageferry.UsageError as error:  # nothing was started
        print(f"that can't be asked for: {error}", file=sys.stderr)
        return error.exit_code
    except pageferry.MigrationError as error:  # the message says where the guest is now
        print(f"{error} (exit code {error.exit_code})", file=sys.stderr)
        if error.report is not None:
            print(f"it had sent {error.report.bytes_on_wire:,} bytes", file=sys.stderr)
        return error.exit_code
    tell(report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
