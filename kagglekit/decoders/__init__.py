"""Language models (decoders) as backbones: their weights, and what they need in memory."""
