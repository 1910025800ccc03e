"""Formats of tables: bytes as text, CSV, JSON."""
