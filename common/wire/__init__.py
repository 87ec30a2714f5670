"""The stream between the agents: a sans-IO codec, typed messages, and the one file that has sockets."""
