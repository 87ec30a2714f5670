"""A guest and a link as figures: what strategies are simulated against, in virtual time."""
