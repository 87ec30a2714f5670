"""The paper's experiment: what was published, and what is measured beside it."""
