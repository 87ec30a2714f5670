"""What a migration will cost, measured and reckoned before it."""
