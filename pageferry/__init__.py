"""A live-migration laboratory: real guest memory, real TCP, real page faults, measured downtime."""
