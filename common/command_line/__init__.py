"""Command lines: options as people write them, complaints about them, and exit codes."""
