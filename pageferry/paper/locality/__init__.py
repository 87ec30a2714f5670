"""Where the cache pays: the paper's claim over locality and dirty rate, simulated and measured."""
