"""How much of this host is ours: the least of the machine's, the control groups' and the rlimits.

Everything here reads files below a root, so that a made-up tree can stand for another kernel; each
message names the figure and whose limit it is.
"""
