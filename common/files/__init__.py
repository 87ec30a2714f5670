"""Files that people hand us, and files that we write."""
