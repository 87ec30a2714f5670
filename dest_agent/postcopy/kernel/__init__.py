"""The compiled part of serving page faults; `dest_agent.postcopy.fault_handler` is the way in."""
