"""The source agent: boots a guest, runs it, and drives its migration."""
