"""Post-copy at the destination: the guest runs while pages are missing."""
