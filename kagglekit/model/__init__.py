"""The model: a backbone, a pooling and a head."""
