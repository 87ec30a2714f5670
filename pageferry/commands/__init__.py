"""The commands of `pageferry`, one per file: take the options, make one call, print the result."""
