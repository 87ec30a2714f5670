"""What belongs to neither agent: running pairs of them, comparing, reporting."""
