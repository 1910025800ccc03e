"""To Kaggle and back: kernels that run with the internet off, their data sets, and what they made, at home again."""
