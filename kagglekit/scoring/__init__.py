"""Metrics, their fast forms, and how much a score would differ with other rows."""
