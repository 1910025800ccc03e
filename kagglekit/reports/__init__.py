"""Reports: all runs of a work folder in a table, runs side by side, and a page to send to others."""
