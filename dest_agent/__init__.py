"""The destination agent: receives guests and runs them."""
