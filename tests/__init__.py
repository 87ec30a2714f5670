"""Tests; `unit` mirrors the tree, `integration` starts real processes, `support` is shared."""
