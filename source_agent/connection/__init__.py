"""The connections of a session at the source, and what travels on the control connection."""
