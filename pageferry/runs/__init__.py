"""Several migrations in one command: cases, rows, tables."""
