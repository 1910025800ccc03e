"""kagglekit: text-classification competitions from train.csv to a checked submission.csv."""

__version__ = "0.6.0"
