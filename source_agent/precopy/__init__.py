"""Pre-copy at the source: rounds of pages, encoded and sent while the guest runs."""
