"""What is run from a checkout of the project, and not installed with it."""
