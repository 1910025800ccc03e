"""Metrics, their fast forms, and the bootstrap."""
