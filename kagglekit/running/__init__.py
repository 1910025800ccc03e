"""Notebooks run in batch: their parameters, their kernel, whether they are done, folds in parallel."""
