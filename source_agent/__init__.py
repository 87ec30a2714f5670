"""The source agent: it boots a guest, runs it, and drives its migration."""
