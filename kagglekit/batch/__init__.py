"""Notebooks run in batch: their parameters, their kernel, their progress, and whether they are done."""
