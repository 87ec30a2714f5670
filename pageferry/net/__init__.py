"""Shaped networks on one machine: two namespaces and a link, or a relay of connections."""
