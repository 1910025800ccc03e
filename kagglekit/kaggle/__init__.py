"""To Kaggle and back: build kernels that run with the internet off, push them, and merge their output at home."""
