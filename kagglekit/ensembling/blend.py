"""Blends: the predictions of several runs become those of one.

A member is an array of predictions (rows, columns), and the members have the same rows. Each way of blending keeps what
predictions are (probabilities whose rows sum to 1, values on the scale of the target), so a blend is a run like any.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.stats import rankdata

from kagglekit.metrics import CLASSES
from kagglekit.paths import fold_folders, replacing, run_folder, write_json
from kagglekit.tables import Run, write_predictions

METHODS = ("mean", "rank", "vote", "weights")


def weighted_mean(members: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """The linear pool: the sum of the members (n, k), each times its weight; float32 (n, k)."""
    return np.tensordot(np.asarray(weights, dtype=np.float64), np.asarray(members), axes=1).astype(np.float32)


def mean(members: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the members; float32 (n, k)."""
    return weighted_mean(members, np.full(len(members), 1 / len(members)))


def rank_mean(members: Sequence[np.ndarray], kind: str) -> np.ndarray:
    """The mean of the members' ranks, read off on the members' mean distribution; float32 (n, k).

    For metrics that see only the order (ROC AUC, Spearman), when members are spread differently: a timid member then
    counts as much as a bold one. Per column, a mean rank r becomes the mean of the members' r-th smallest values, so
    thresholds and class shares keep their meaning, and one member alone stays what it is (quantile normalisation,
    Bolstad et al., 2003). Rows of class probabilities are scaled to sum to 1.
    """
    members = np.asarray(members, dtype=np.float64)  # (members, n, k)
    ranks = rankdata(members, axis=1).mean(axis=0)  # 1 to n
    levels = np.sort(members, axis=1).mean(axis=0)
    places = np.arange(1, members.shape[1] + 1)
    pooled = np.stack([np.interp(r, places, level) for r, level in zip(ranks.T, levels.T, strict=True)], axis=1)
    if kind in CLASSES:
        pooled /= np.maximum(pooled.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return pooled.astype(np.float32)


def vote(members: Sequence[np.ndarray], kind: str) -> np.ndarray:
    """The share of members that choose a class (multilabel: that are above 0.5); the median of values; float32 (n, k).

    A thousandth of the members' mean probability is mixed in, so that a tie goes to the more probable class.
    """
    members = np.asarray(members, dtype=np.float64)  # (members, n, k)
    if kind not in (*CLASSES, "multilabel"):
        return np.median(members, axis=0).astype(np.float32)
    chosen = np.eye(members.shape[2])[members.argmax(axis=2)] if kind in CLASSES else members > 0.5
    return (0.999 * chosen.mean(axis=0) + 0.001 * members.mean(axis=0)).astype(np.float32)


def pool_loss(members: Sequence[np.ndarray], labels: np.ndarray, kind: str) -> Callable:
    """The loss of the linear pool, as a function of the weights (members,) that gives the loss and its gradient.

    Log loss for binary, multiclass and multilabel, probabilities clipped to 1e-6; squared error for ordinal and
    regression, in units of each target's standard deviation.
    """
    members = np.stack([np.asarray(member, dtype=np.float64) for member in members], axis=-1)  # (n, k, members)
    if kind in CLASSES:
        truth = members[np.arange(len(labels)), labels]  # what each member gave to the true class: (n, members)
    elif kind == "multilabel":
        truth = np.where(np.asarray(labels)[..., None] == 1, members, 1 - members).reshape(-1, members.shape[-1])
    else:
        labels = np.asarray(labels, dtype=np.float64).reshape(members.shape[:2])
        scale = labels.std(axis=0) + (labels.std(axis=0) == 0)
        errors = ((members - labels[..., None]) / scale[:, None]).reshape(-1, members.shape[-1])

        def squared_error(weights: np.ndarray) -> tuple[float, np.ndarray]:
            error = errors @ weights  # that of the pool, as the weights sum to 1
            return np.mean(error**2), 2 * error @ errors / len(error)

        return squared_error
    truth = truth.clip(1e-6, 1)

    def log_loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        pooled = truth @ weights
        return -np.log(pooled).mean(), -(1 / pooled) @ truth / len(pooled)

    return log_loss


def fit_weights(members: Sequence[np.ndarray], labels: np.ndarray, kind: str) -> np.ndarray:
    """The weights (members,), each at least 0 and 1 in sum, whose linear pool has the lowest `pool_loss` on these rows.

    A convex problem, solved by SLSQP from equal weights. Never worse on these rows than the best member or the mean.
    """
    loss, count = pool_loss(members, labels, kind), len(members)
    equal = np.full(count, 1 / count)
    if count == 1:
        return equal
    sums_to_one = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}
    found = minimize(
        loss, equal, jac=True, method="SLSQP", bounds=[(0, 1)] * count, constraints=sums_to_one,
        options={"ftol": 1e-10, "maxiter": 500},
    ).x  # fmt: skip
    found = np.nan_to_num(found, nan=0.0).clip(0, 1)
    candidates = [found / found.sum() if found.sum() > 0 else equal, equal, *np.eye(count)]
    return min(candidates, key=lambda weights: loss(weights)[0])


@dataclass(frozen=True, eq=False)
class Blend(Run):
    """A run made of runs: what a `Run` has, how it was made, and per fold the weight of each of the `members`."""

    method: str
    members: list[str]
    weights: dict[int, list[float]]

    def save(self, work: str | Path, run: str, task) -> Path:
        """Write the blend as a run: weights.json, then fold by fold its tables. Returns the run's folder.

        An older blend of that name is replaced. Raises ValueError where the name belongs to a trained run.
        """
        folder = run_folder(work, run)
        trained = any(p.is_dir() for p in folder.glob("*")) and not (folder / "weights.json").is_file()
        if trained or run in self.members:
            raise ValueError(f"run={run!r} is a trained run, or one of the members: give the blend another name")
        weights = {k: dict(zip(self.members, row, strict=True)) for k, row in self.weights.items()}
        write_json(folder / "weights.json", {"method": self.method, "members": self.members, "weights": weights})
        for k in set(fold_folders(folder)) - set(self.folds):
            shutil.rmtree(folder / f"fold{k}")
        for k in self.folds:
            rows = (self.oof["fold"] == k).to_numpy()
            with replacing(folder / f"fold{k}") as part:
                ids = self.oof["id"][rows].tolist()
                write_predictions(part / "oof.parquet", ids, self.oof_array[rows], task.columns, fold=k)
                write_predictions(part / "test.parquet", self.test_ids, self.tests[k], task.columns)
        return folder


def blend_runs(runs: Sequence[Run], labels: np.ndarray, kind: str, method: str = "mean") -> Blend:
    """Blend runs fold by fold: fold k's out-of-fold rows among themselves, and likewise the fold-k test predictions.

    `labels` are those of all rows of train. `method`: "mean", "rank" (`rank_mean`), "vote", or "weights"
    (`fit_weights`), where fold k's weights are fitted on the out-of-fold rows of the other folds: weights were
    not fitted on the rows they weigh, so the blend's out-of-fold score is an honest one.
    Raises ValueError for runs with different folds.
    """
    check_runs(runs, method)
    first, members = runs[0], [run.oof_array for run in runs]
    labels, folds = np.asarray(labels)[first.rows], first.oof["fold"].to_numpy()
    oof, tests, weights = np.zeros_like(members[0]), {}, {}
    for k in first.folds:
        inside, w = folds == k, np.full(len(runs), 1 / len(runs))
        if method == "weights":
            w = fit_weights([member[~inside] for member in members], labels[~inside], kind)
        oof[inside] = combine([member[inside] for member in members], w, kind, method)
        tests[k] = combine([run.tests[k] for run in runs], w, kind, method)
        weights[k] = w.tolist()
    table = first.oof.copy()
    table.iloc[:, 2:] = oof
    names = [run.name for run in runs]
    return Blend(method, None, first.columns, table, first.rows, tests, first.test_ids, method, names, weights)


def combine(members: Sequence[np.ndarray], weights: np.ndarray, kind: str, method: str) -> np.ndarray:
    """The members (n, k) as one, by a method of `METHODS`; float32 (n, k)."""
    if method == "rank":
        return rank_mean(members, kind)
    return vote(members, kind) if method == "vote" else weighted_mean(members, weights)


def check_runs(runs: Sequence[Run], method: str) -> None:
    """Raise ValueError unless the runs can be blended: some, different, with the same finished folds and columns."""
    names = [run.name for run in runs]
    if method not in METHODS:
        raise ValueError(f"method={method!r}: choose one of {', '.join(METHODS)}")
    if not runs or len(set(names)) < len(names):
        raise ValueError(f"runs={names}: give at least one run, and each only once")
    everything = {k for run in runs for k in run.folds}
    lacking = [f"{r.name!r} lacks {sorted(everything - set(r.folds))}" for r in runs if everything - set(r.folds)]
    if lacking:
        raise ValueError(
            f"the runs have different finished folds: {'; '.join(lacking)}. Train these folds, or leave the run out"
        )
    if any(run.columns != runs[0].columns for run in runs) or any(
        not run.oof["id"].equals(runs[0].oof["id"]) for run in runs
    ):
        raise ValueError(f"the runs {', '.join(names)} do not belong to the same task and folds")
    if method == "weights" and len(everything) < 2:
        raise ValueError(
            f"method='weights' fits the weights of a fold on the other folds, and only fold {min(everything)} is "
            "finished: train another fold, or use method='mean'"
        )


def correlation(runs: Sequence[Run], labels: np.ndarray | None = None, kind: str = "multiclass") -> pd.DataFrame:
    """The Pearson correlation of the runs' out-of-fold predictions, all columns in one; (runs, runs).

    With the `labels` of all rows of train, that of their errors (prediction minus truth), which tells more: good runs
    agree on easy rows, and a blend gains where they err differently.
    """
    truth = 0.0
    if labels is not None:
        truth = np.asarray(labels)[runs[0].rows]
        truth = np.eye(len(runs[0].columns))[truth] if kind in CLASSES else truth.reshape(len(truth), -1)
    return pd.DataFrame({run.name: (run.oof_array - truth).ravel() for run in runs}).corr()
