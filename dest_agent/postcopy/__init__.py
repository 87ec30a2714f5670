"""Post-copy at the destination: the guest runs, and pages are missing."""
