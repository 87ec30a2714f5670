"""The source's report of a migration, made of its measurements."""
