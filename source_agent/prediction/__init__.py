"""What a migration will cost, measured and predicted before it."""
