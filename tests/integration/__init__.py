"""Real agents as real processes."""
