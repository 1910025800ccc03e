"""The text before the labels."""
