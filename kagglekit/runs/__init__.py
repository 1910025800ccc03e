"""What a run is, what it left on disk, and what it was made from."""
