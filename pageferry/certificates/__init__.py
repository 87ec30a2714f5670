"""Certificates for agents."""
