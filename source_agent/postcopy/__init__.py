"""Post-copy at the source: the guest runs elsewhere, and pages are missing there."""
