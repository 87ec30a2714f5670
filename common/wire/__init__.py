"""The stream between the agents: a sans-IO codec, typed messages, and the sockets for them."""
