"""The compiled part of serving page faults; `dest_agent.faults` is the way in."""
