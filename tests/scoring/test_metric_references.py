"""Every metric of the catalogue is scikit-learn's, scipy's or the host's formula, on rows where they could differ."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from kagglekit.scoring.catalogue import CLASSES
from kagglekit.scoring.fast_forms import _ranks
from kagglekit.scoring.metrics import find_metric, make_scorer, prepare, score
from tests.scoring.examples import CATALOGUE, COLUMNS, PAIRS, make_rows


def one_hot(labels, columns):
    return labels if labels.ndim == 2 else np.eye(columns)[labels]


def apk(actual, predicted, k):
    """B. Hamner's `ml_metrics.apk`, to which Kaggle's MAP@k pages point."""
    score, hits = 0.0, 0.0
    for i, p in enumerate(predicted[:k]):
        if p in actual and p not in predicted[:i]:
            hits += 1.0
            score += hits / (i + 1.0)
    return score / min(len(actual), k) if actual else 0.0


def map_at(k):
    def reference(labels, probs):
        ranked = [sorted(range(len(row)), key=lambda c, row=row: -row[c]) for row in probs.tolist()]
        actual = [np.flatnonzero(row).tolist() for row in one_hot(labels, probs.shape[1])]
        return np.mean([apk(a, p, k) for a, p in zip(actual, ranked, strict=True)])

    return reference


def kappa(weights):
    def reference(labels, chosen):
        size = max(labels.max(), chosen.max()) + 1
        apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
        cost = {"none": (apart > 0) * 1.0, "linear": apart, "quadratic": apart**2}[weights]
        seen = np.histogram2d(labels, chosen, bins=[np.arange(size + 1)] * 2)[0]
        chance = np.outer(seen.sum(axis=1), seen.sum(axis=0)) / len(labels)
        return 1 - (cost * seen).sum() / (cost * chance).sum() if (cost * chance).sum() else 0.0

    return reference


def f1(average):
    return lambda labels, chosen: sk.f1_score(labels, chosen, average=average, zero_division=0)


def f_beta(beta):
    """Precision and recall of the second class, weighed (van Rijsbergen, 1979)."""

    def reference(labels, chosen):
        right = ((labels == 1) & (chosen == 1)).sum()
        precision, recall = (right / max(1, (some == 1).sum()) for some in (chosen, labels))
        return (1 + beta**2) * precision * recall / (beta**2 * precision + recall) if right else 0.0

    return reference


def msle(labels, values):
    """As Kaggle writes it for Mercari, row by row; a price below 0 counts as 0."""
    rows = zip(labels.tolist(), values.tolist(), strict=True)
    return sum((math.log(max(p, 0) + 1) - math.log(a + 1)) ** 2 for a, p in rows) / len(labels)


def columnwise(function):
    """The mean over the columns; a constant, on which scipy gives NaN, counts 0."""
    return lambda labels, values: np.mean(
        [np.nan_to_num(function(*each)[0]) for each in zip(labels.T, values.T, strict=True)]
    )


def roc_auc(labels, probs):
    truth = one_hot(labels, probs.shape[1])[:, 1:] if probs.shape[1] == 2 else one_hot(labels, probs.shape[1])
    probs = probs[:, 1:] if probs.shape[1] == 2 else probs
    both = [k for k in range(truth.shape[1]) if 0 < truth[:, k].sum() < len(truth)]
    return np.mean([sk.roc_auc_score(truth[:, k], probs[:, k]) for k in both])


def average_precision(labels, probs):
    if probs.shape[1] == 2:
        return sk.average_precision_score(labels, probs[:, 1])
    return sk.average_precision_score(one_hot(labels, probs.shape[1]), probs, average="macro")


def log_loss(labels, probs):
    if labels.ndim == 2:
        return np.mean([sk.log_loss(y, p, labels=[0, 1]) for y, p in zip(labels.T, probs.T, strict=True)])
    return sk.log_loss(labels, probs, labels=range(probs.shape[1]))


def brier(labels, probs):
    if labels.ndim == 2:
        return np.mean([sk.brier_score_loss(y, p, pos_label=1) for y, p in zip(labels.T, probs.T, strict=True)])
    if probs.shape[1] == 2:
        return sk.brier_score_loss(labels, probs[:, 1], pos_label=1)
    return ((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1).mean()  # Brier, 1950


REFERENCE = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "f1": lambda labels, chosen: sk.f1_score(labels, chosen, pos_label=1, zero_division=0),
    "f0.5": f_beta(0.5),
    "f2": f_beta(2),
    "f1_macro": f1("macro"),
    "f1_micro": f1("micro"),
    "f1_weighted": f1("weighted"),
    "f1_samples": f1("samples"),
    "jaccard_samples": lambda labels, chosen: sk.jaccard_score(labels, chosen, average="samples", zero_division=0),
    "hamming": lambda labels, chosen: np.mean(labels != chosen),
    "mcc": sk.matthews_corrcoef,
    "qwk": kappa("quadratic"),
    "kappa_linear": kappa("linear"),
    "cohen_kappa": kappa("none"),
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
    "rmse": lambda labels, values: np.sqrt(np.mean((labels - values) ** 2)),
    "mcrmse": lambda labels, values: np.mean(np.sqrt(np.mean((labels - values) ** 2, axis=0))),
    "rmsle": lambda labels, values: np.mean([msle(*each) ** 0.5 for each in zip(labels.T, values.T, strict=True)]),
    "mse": sk.mean_squared_error,
    "mae": sk.mean_absolute_error,
    "mape": sk.mean_absolute_percentage_error,
    "pearson": columnwise(stats.pearsonr),
    "spearman": columnwise(stats.spearmanr),
    "r2": sk.r2_score,
    "map@2": map_at(2),
    "ndcg@2": lambda labels, probs: sk.ndcg_score(one_hot(labels, probs.shape[1]), probs, k=2),
    "top_k_accuracy@2": lambda labels, probs: sk.top_k_accuracy_score(labels, probs, k=2, labels=range(probs.shape[1])),
}


def rows_that_could_differ(kind):
    """Labels and predictions by name: ties, absent classes, rows of one class, predictions that name nothing."""
    (many, hard), labels = make_rows(kind, 60, skills=[1.0, 0.3])
    size = COLUMNS[kind]
    grid = many.round(1) if kind not in CLASSES else np.maximum(many.round(1), 0.05)
    grid = grid / grid.sum(axis=1, keepdims=True) if kind in CLASSES else grid
    flat = np.full_like(many, 1 / size if kind in CLASSES else 0.5)
    yield from {"usual": (labels, many), "ties": (labels, grid), "constant": (labels, flat)}.items()
    yield "few rows", (labels[:3], hard[:3])
    if kind == "regression":
        yield "zeros", (np.where(labels < 4, 0, labels), hard)
        yield "a constant target", (np.where([True, False], 1.5, labels), hard)
        yield "labels with ties", (labels.round(), grid)
        return
    yield (
        "nothing right",
        (labels, 4 - many if kind == "ordinal" else (1 - many) / (size - 1 if kind in CLASSES else 1)),
    )
    if kind == "multilabel":
        yield "no label chosen", (labels, many / 100)
        yield "a label that no row has", (labels * [1, 0, 1], many)
        yield "rows without labels", (labels * (np.arange(60) % 2)[:, None], many)
        return
    yield "an absent class", (np.minimum(labels, 1) if kind != "binary" else labels * 0, many)
    yield "one class, all right", (labels * 0, np.where(np.arange(size) == 0, 0.9, 0.1 / max(1, size - 1)) + 0 * many)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_a_metric_is_that_of_its_reference(name, kind):
    for case, (labels, predictions) in rows_that_could_differ(kind):
        if name == "roc_auc" and len(np.unique(labels)) == 1:
            continue  # an error, see test_metrics
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = REFERENCE[name](*prepare(find_metric(name), labels, predictions))
        assert score(name, labels, predictions) == pytest.approx(expected, rel=1e-9, abs=1e-12), case


def test_every_metric_has_a_reference():
    assert set(REFERENCE) == set(CATALOGUE)


@pytest.mark.parametrize("n", [1, 2, 3, 50, 5000])
def test_ranks_are_those_of_scipy_also_of_ties_zeros_and_values_that_differ_in_their_last_bits(n):
    rng = np.random.default_rng(n)
    near = np.nextafter(np.full(n, 0.3), rng.choice([-1, 1], n))
    wide = rng.normal(size=n) * 10.0 ** rng.integers(-300, 300, n)
    zeros, tied = rng.choice([0.0, -0.0, 1e-320], n), rng.integers(-3, 3, n) * 0.1
    for values in (rng.normal(size=n), tied, near, -near, wide, zeros):
        assert np.array_equal(_ranks(values), stats.rankdata(values))
        if n > 2:
            labels, both = rng.integers(0, 4, (n, 1)) / 4.0, np.column_stack([values, values])
            expected = (
                np.nan_to_num(stats.spearmanr(labels[:, 0], values)[0]) if np.ptp(values) and np.ptp(labels) else 0
            )
            assert score("spearman", labels, values[:, None]) == pytest.approx(expected, abs=1e-12)
            scorer = make_scorer("spearman", np.hstack([labels, labels]), 2)
            assert scorer.gain(both) == pytest.approx(expected, abs=1e-12)
