"""The report of a migration: its schema, and what is reckoned from it."""
