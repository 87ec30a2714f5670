"""The compiled part of answering requests for pages; `source_agent.page_server` is the way in."""
