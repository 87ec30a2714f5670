"""Pre-copy at the destination: pages come before the guest runs."""
