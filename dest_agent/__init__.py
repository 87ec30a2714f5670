"""The destination agent: takes guests in and runs them."""
