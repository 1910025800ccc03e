"""Text to tokens, and which rows belong together."""
