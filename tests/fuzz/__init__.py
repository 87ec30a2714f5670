"""Any bytes at all, for whatever reads bytes from outside."""
