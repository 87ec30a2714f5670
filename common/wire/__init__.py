"""The stream between the agents: a sans-IO codec, typed messages, one file that has sockets."""
