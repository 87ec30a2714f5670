"""One migration at the source: its phases in order, and what they share."""
