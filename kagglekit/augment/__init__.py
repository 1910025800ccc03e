"""Training texts in other words: each augmenter is a switch."""
