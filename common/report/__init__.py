"""The report of a migration: its schema, and what is calculated from it."""
