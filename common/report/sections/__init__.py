"""The sections of a report, a model each."""
