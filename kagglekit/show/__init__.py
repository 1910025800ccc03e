"""Pictures and tables for the notebooks."""
