"""A process of ours: how it starts, what it logs, which signals end it, what its threads raise."""
