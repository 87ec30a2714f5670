"""Memory traces of real programs."""
