"""The loop and its three seams."""
