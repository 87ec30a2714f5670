"""Tests that make networks of their own; they need root, and say so where they are skipped."""
