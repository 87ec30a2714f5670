"""The compiled part of answering requests for pages; see `source_agent.postcopy.page_server`."""
