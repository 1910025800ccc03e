"""Labels of every kind of task, and predictions that know them more or less: for tests of scores and ensembles."""

import numpy as np
from scipy.special import expit, softmax

from kagglekit.scoring.catalogue import AT_K, CLASSES, METRICS

CATALOGUE = METRICS | {f"{name}@2": make(2) for name, make in AT_K.items()}  # a new metric is in all batteries
PAIRS = [(name, kind) for name, metric in CATALOGUE.items() for kind in metric.kinds]
DECIDING = [(name, kind) for name, kind in PAIRS if CATALOGUE[name].decides]
COLUMNS = {"binary": 2, "multiclass": 3, "multilabel": 3, "ordinal": 1, "regression": 2}
KINDS = tuple(COLUMNS)
CHANCES, VALUES = (*CLASSES, "multilabel"), ("ordinal", "regression")
METRIC = {"binary": "roc_auc", "multiclass": "log_loss", "multilabel": "f1_macro", "ordinal": "qwk"}
METRIC |= {"regression": "rmse"}


def make_labels(kind, rng, n=200):
    if kind == "regression":
        return np.maximum(4 + rng.normal(size=(n, COLUMNS[kind])), 0).astype(np.float32)  # not below 0, for rmsle
    if kind == "multilabel":
        return (rng.random((n, COLUMNS[kind])) < 0.4).astype(np.float32)
    return rng.integers(0, {"binary": 2, "multiclass": 3, "ordinal": 5}[kind], n)


def make_predictions(kind, labels, rng, skills=(2.0, 1.0, 0.5)):
    """Predictions (runs, n, columns) float64 that know the labels, each by its skill."""
    made = []
    for skill in skills:
        noise = rng.normal(size=(len(labels), COLUMNS[kind]))
        if kind in CLASSES:
            made.append(softmax(skill * np.eye(COLUMNS[kind])[labels] + noise, axis=1))
        elif kind == "multilabel":
            made.append(expit(skill * (labels - 0.5) + noise))
        else:
            made.append(labels.reshape(noise.shape) + noise / max(skill, 1e-3))
    return np.stack(made)


def make_rows(kind, n=200, skills=(2.0, 1.0, 0.5), seed=0):
    """Predictions (runs, n, columns), and labels."""
    rng = np.random.default_rng(seed)
    labels = make_labels(kind, rng, n)
    return make_predictions(kind, labels, rng, skills), labels


def skewed_error(labels, predictions):
    """A metric of the user's, which is not in the catalogue."""
    return float(np.mean(np.abs(predictions[:, 0] - (labels == 0)) ** 1.5))


skewed_error.higher_is_better = False
OWN = f"{__name__}:skewed_error"
