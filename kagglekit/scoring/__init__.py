"""Metrics, their fast forms, and the bootstrap."""

KINDS = ("binary", "multiclass", "multilabel", "regression", "ordinal")  # of task
CLASSES = ("binary", "multiclass")  # kinds of task whose predictions are one probability per class, 1 in sum
