"""Shallow classifiers on frozen embeddings: `embed` makes the vectors, `fit_shallow` learns from them.

Logistic regression or ridge, linear SVM, boosted trees; a few rows are enough. Regularisation is cross-validated and
probabilities are calibrated within the training rows. The same seed gives the same predictions.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

from kagglekit.data.batches import Examples, prediction_batches
from kagglekit.data.tokens import Tokens
from kagglekit.device import autocast, fast_attention
from kagglekit.model.backbones import token_types
from kagglekit.model.long_attention import attention_options
from kagglekit.model.pooling import choose_pooling, make_pooling
from kagglekit.options import check_range
from kagglekit.progress import Progress
from kagglekit.scoring.metrics import CLASSES

SHALLOW = ("logistic", "svm", "boosting")
STRENGTHS = {  # candidates; a larger one fits more closely
    "logistic": (0.3, 1.0, 3.0, 10.0, 30.0, 100.0),  # over the number of rows this is C, or 1 / alpha of a ridge
    "svm": (0.1, 0.3, 1.0, 3.0, 10.0),  # C
}
ROUNDS = 150  # of boosting, at most
Splits = list[tuple[np.ndarray, np.ndarray]]  # row numbers to fit on and to measure on


def fit_shallow(
    kind: str,
    outputs: int,
    x: np.ndarray,
    labels: np.ndarray,
    unseen: Sequence[np.ndarray],
    classifier: str = "logistic",
    seed: int = 0,
    strength: float | None = None,
) -> list[np.ndarray]:
    """Learn from vectors x (rows, width) and labels of `encode_labels`, and predict each matrix in `unseen`.

    kind: of a task. outputs: columns of a predictions table; the results are (rows, outputs) float32. Several labels or
    values have a model each. A class without a label has probability 0.
    classifier: "logistic", for values a ridge regression; "svm" on 600 random features of a Gaussian kernel (Nyström;
    Williams and Seeger, 2001), with a logistic regression from margins to probabilities (Platt, 1999); "boosting" of
    trees, stopped at the best round. Tuned by cross entropy, or squared error, in three inner folds.
    strength: of "logistic"; given, nothing is cross-validated.
    Costs for 2,000 rows of 384 numbers in 3 classes, on one core: about 1, 5 and 5 seconds.
    """
    check_range("classifier", classifier, classifier in SHALLOW, f"one of {', '.join(SHALLOW)}")
    strengths = STRENGTHS.get(classifier, ()) if strength is None else (strength,)
    options = (classifier, seed, strengths)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The least populated class")  # inner folds without it are allowed
        if kind in CLASSES:
            return _classes(x, labels, unseen, outputs, *options)
        columns = labels.reshape(len(labels), -1).T
        if kind == "multilabel":
            found = [[p[:, 1:] for p in _classes(x, y.astype(int), unseen, 2, *options)] for y in columns]
        else:
            found = [_values(x, y.astype(np.float64), unseen, *options) for y in columns]
    return [np.hstack(column).astype(np.float32) for column in zip(*found, strict=True)]


def _classes(x, y, unseen, classes, classifier, seed, strengths) -> list[np.ndarray]:
    """Probabilities (rows, classes)."""
    present, y = np.unique(y, return_inverse=True)
    full = [np.zeros((len(rows), classes), dtype=np.float32) for rows in unseen]
    if len(present) == 1:
        found = [1.0 for _ in unseen]
    else:
        n_splits = min(3, np.bincount(y).max())
        inner = StratifiedKFold(n_splits, shuffle=True, random_state=seed).split(x, y) if n_splits > 1 else ()
        found = _fit(x, y, unseen, len(present), list(inner), classifier, seed, strengths)
    for probs, some in zip(full, found, strict=True):
        probs[:, present] = some
    return full


def _values(x, y, unseen, classifier, seed, strengths) -> list[np.ndarray]:
    """Values (rows, 1); learned standardised, so that strengths compare."""
    center, scale = y.mean(), y.std() or 1.0
    inner = KFold(min(3, len(y)), shuffle=True, random_state=seed).split(x) if len(y) > 1 else ()
    found = _fit(x, (y - center) / scale, unseen, 0, list(inner), classifier, seed, strengths)
    return [center + scale * values for values in found]


def _fit(x, y, unseen, count: int, inner: Splits, classifier, seed, strengths) -> list[np.ndarray]:
    """Predictions (rows, count) of classes 0 to count - 1, or (rows, 1) of values, where count is 0."""
    if classifier == "boosting":
        return _boost(x, y, unseen, count, inner, seed)
    if not inner:  # no class has two rows: nothing to cross-validate
        classifier, strengths = "logistic", (10.0,)
    calibrated = bool(count) and classifier == "svm"
    best, chosen, platt = np.inf, strengths[0], None
    for strength in strengths if len(strengths) > 1 or calibrated else ():
        oof = np.zeros((len(y), max(count, 1)))
        for a, b in inner:
            (oof[b],) = _scores(_make(classifier, strength, len(a), seed, count), x[a], y[a], [x[b]], count)
        probs = oof
        if calibrated:
            sigmoids = LogisticRegression(max_iter=300).fit(oof, y)
            probs = sigmoids.predict_proba(oof)
        loss = _losses(probs, y, count).mean()
        if loss < best:
            best, chosen, platt = loss, strength, sigmoids if calibrated else None
    scores = _scores(_make(classifier, chosen, len(y), seed, count), x, y, unseen, count)
    return [platt.predict_proba(rows) for rows in scores] if calibrated else scores


def _make(classifier: str, strength: float, rows: int, seed: int, count: int):
    if classifier == "logistic":
        last = LogisticRegression(C=strength / rows, max_iter=300) if count else Ridge(rows / strength)
        return make_pipeline(StandardScaler(), last)
    kernel = Nystroem(n_components=min(rows, 600), random_state=seed)  # gamma: 1 / width, for scaled columns
    last = LinearSVC if count else LinearSVR
    return make_pipeline(StandardScaler(), kernel, last(C=strength, tol=1e-2, random_state=seed))


def _scores(model, x, y, unseen, count: int) -> list[np.ndarray]:
    """Probabilities or margins (rows, count) of each matrix, or values (rows, 1). A class missing in y gets 0 or -1."""
    if not count:
        model.fit(x, y)
        return [model.predict(rows)[:, None] for rows in unseen]
    present, full = np.unique(y), []
    if len(present) > 1:
        model.fit(x, y)
    for rows in unseen:
        if len(present) == 1:
            found, lowest = 1.0, 0.0
        elif hasattr(model, "predict_proba"):
            found, lowest = model.predict_proba(rows), 0.0
        else:
            found, lowest = model.decision_function(rows), -1.0
            found = np.column_stack([-found, found]) if found.ndim == 1 else found
        full.append(np.full((len(rows), count), lowest))
        full[-1][:, present] = found
    return full


def _losses(predictions: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Cross entropy or squared error of each row."""
    if not count:
        return (predictions[:, 0] - y) ** 2
    return -np.log(predictions[np.arange(len(y)), y].clip(1e-4))


def _boost(x, y, unseen, count: int, inner: Splits, seed: int) -> list[np.ndarray]:
    kind = HistGradientBoostingClassifier if count else HistGradientBoostingRegressor

    def make(rounds, rows):
        leaf = int(np.clip(rows // 20, 1, 20))  # with sklearn's 20 rows few would split
        options = {"max_leaf_nodes": 15, "max_features": 0.3, "min_samples_leaf": leaf, "early_stopping": False}
        return kind(max_iter=rounds, random_state=seed, **options)

    losses = np.zeros(ROUNDS)
    for a, b in inner if len(y) < 1000 else inner[:1]:  # of many rows a third is enough
        here = np.unique(y[a])
        if count and len(here) == 1:
            continue
        model = make(ROUNDS, len(a)).fit(x[a], y[a])
        for n, found in enumerate(model.staged_predict_proba(x[b]) if count else model.staged_predict(x[b])):
            full = np.zeros((len(b), count)) if count else found[:, None]
            if count:
                full[:, here] = found
            losses[n] += _losses(full, y[b], count).sum()
    model = make(int(losses.argmin()) + 1 if losses.any() else 50, len(y)).fit(x, y)
    return [model.predict_proba(rows) if count else model.predict(rows)[:, None] for rows in unseen]


PLAIN = (  # poolings without parameters, which would be random here
    *("auto", "mean", "cls", "max", "mean_max", "last_token", "last4_concat", "last4_max", "all_cls"),
)


@torch.inference_mode()
def embed(
    backbone: torch.nn.Module, tokens: Tokens, pad_id: int, precision: str = "fp32", pooling: str = "mean"
) -> np.ndarray:
    """Embed texts: (texts, width) float32, in their order.

    backbone: an encoder of transformers, on its device; it keeps its mode (train or eval), and no random number is
    used. precision: see `choose_precision`; poolings compute in float32. pooling: one of PLAIN; with some of them the
    vectors are wider than the backbone.
    Costs a forward pass of all texts, in batches sorted by length. Raises ValueError for another pooling.
    """
    check_range("pooling", pooling, pooling in PLAIN, f"one of {', '.join(PLAIN)}, which need no training")
    pool, examples = make_pooling(choose_pooling(pooling, backbone.config), backbone), Examples(tokens, pad_id)
    device, training, vectors = next(backbone.parameters()).device, backbone.training, []
    order = prediction_batches(tokens.lengths, 2048 if device.type == "cpu" else 16384)
    options = {"output_hidden_states": True} if pool.all_layers else {}
    backbone.eval()
    progress = Progress("embedding", len(order), "batch", line=False, once=True)
    try:
        with progress, fast_attention(backbone, device):
            for number, rows in enumerate(order, 1):
                batch = {name: x.to(device, non_blocking=True) for name, x in examples.__getitems__(rows).items()}
                columns = batch.pop("token_type_ids", None)
                how = options | token_types(backbone, columns) | attention_options(backbone, *batch.values(), columns)
                with autocast(device, precision):
                    outputs = backbone(**batch | how)
                below = outputs.hidden_states[:-1] if pool.all_layers else ()
                states = [state.float() for state in (*below, outputs.last_hidden_state)]
                vectors.append(pool(states, batch["attention_mask"]))  # (batch, width)
                progress.update(number)
    finally:
        backbone.train(training)
    return torch.cat(vectors).cpu().numpy()[np.argsort(np.concatenate(order))]
