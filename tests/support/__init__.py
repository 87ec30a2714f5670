"""What tests share: real processes, peers, links, and what they are held to."""
