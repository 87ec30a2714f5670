"""The guest: memory, write-back cache, dirty log, vCPU threads, and what runs on them."""
