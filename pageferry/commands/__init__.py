"""The commands of `pageferry`, one a file: options in, one call, what is printed."""
