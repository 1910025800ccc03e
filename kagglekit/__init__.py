"""kagglekit: text-classification competitions from train.csv to a checked submission.csv."""

__version__ = "0.8.0"
