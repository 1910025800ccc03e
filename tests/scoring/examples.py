"""Labels of every kind of task, and predictions that know them more or less: for tests of scores and ensembles."""

import numpy as np
from scipy.special import expit, softmax

from kagglekit.scoring.metrics import CLASSES, METRICS

PAIRS = [(name, kind) for name, metric in METRICS.items() for kind in metric.kinds]  # a new metric is in all batteries
DECIDING = [(name, kind) for name, kind in PAIRS if METRICS[name].decides]


def make_labels(kind, rng, n=200, columns=3):
    if kind == "regression":
        return rng.normal(size=(n, columns)).astype(np.float32)
    if kind == "multilabel":
        return (rng.random((n, columns)) < 0.3).astype(np.float32)
    return rng.integers(0, 2 if kind == "binary" else columns, n)


def make_predictions(kind, labels, rng, noises=(1.0,) * 4):
    """Predictions (models, n, columns) that know the labels, each the less the more its noise."""
    made = []
    for noise in noises:
        if kind in CLASSES:
            logits = np.eye(2 if kind == "binary" else 3)[labels] + noise * rng.normal(size=(1, len(labels), 1))
            made.append(softmax(logits + noise * rng.normal(size=logits.shape), axis=-1)[0])
        else:
            values = labels.reshape(len(labels), -1)
            values = values + noise * rng.normal(size=values.shape)
            made.append(expit(values - 0.5) if kind == "multilabel" else values)
    return np.stack(made)


def make_rows(kind, n=200, noises=(1.0,) * 4, seed=0):
    """Labels, and predictions (models, n, columns)."""
    rng = np.random.default_rng(seed)
    labels = make_labels(kind, rng, n)
    return labels, make_predictions(kind, labels, rng, noises)


def skewed_error(labels, predictions):
    """A metric of the user's, which is not in the catalogue."""
    return float(np.mean(np.abs(predictions[:, 0] - (labels == 0)) ** 1.5))


skewed_error.higher_is_better = False
OWN = f"{__name__}:skewed_error"
