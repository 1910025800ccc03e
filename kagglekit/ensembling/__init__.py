"""Several runs in, one run out."""
