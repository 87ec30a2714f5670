"""One migration at the destination: its phases in order, and what they share."""
