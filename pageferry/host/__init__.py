"""A host: both agents around a table of guests, and its control socket."""
