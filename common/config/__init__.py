"""The configuration of a migration."""
