"""The paper's experiment: what was published, and what is measured to compare."""
