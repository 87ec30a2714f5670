"""Tests; `tests/unit` runs in seconds, `tests/integration` starts real processes."""
