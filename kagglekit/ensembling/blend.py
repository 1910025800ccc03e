"""Blends: the predictions of several runs become those of one.

What comes out is what members are (probabilities whose rows sum to 1, values on the scale of the target), so a blend is
a run like any.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from kagglekit.ensembling.base import Ensembler, StackInput
from kagglekit.ensembling.base_predictions import RowFeatures, make_stack_input
from kagglekit.ensembling.crossfit import divide, fit_by_fold, predict_by_fold
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.files import fold_folders, replacing, run_folder, write_json
from kagglekit.runs.lineage import table_metadata
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import Run, write_predictions
from kagglekit.scoring.metrics import CLASSES


@dataclass(frozen=True, eq=False)
class Blend(Run):
    """A run made of runs: what a `Run` has, and how it was made.

    plan: what was asked for. members: the names of the runs. fitted: fold -> what predicts its rows, fitted without it.
    makers: fold -> what predicts the rows of test; with a single fold, of which parts are made, these are not the same.
    beside: what the plan saw beside predictions. crosses: the labels of a single fold had a say in its test table.
    honest: members whose predictions are of epochs that other folds chose.
    """

    plan: dict[str, Any]
    runs: list[str]
    fitted: dict[int, Ensembler] = field(repr=False)
    makers: dict[int, Ensembler] = field(repr=False)
    features: list[str] = field(default_factory=list)
    crosses: bool = False
    honest: list[str] = field(default_factory=list)

    @property
    def weights(self) -> dict[int, list]:
        """Fold -> a number per member, or one per member and column; without the folds where there are no such."""
        found = {k: one.weights_ for k, one in self.makers.items()}
        return {k: np.asarray(weights).tolist() for k, weights in found.items() if weights is not None}

    @property
    def chosen(self) -> dict[int, str]:
        """Fold -> the way to blend that was chosen without it, or the only one there was."""
        return {k: getattr(one, "chosen_", self.plan["method"]) for k, one in self.makers.items()}

    def named(self, name: str) -> Self:
        """The same under another name."""
        return replace(self, name=name)

    def weight_table(self) -> pd.DataFrame:
        """The weights, a row per fold and a column per member; of weights per column, their mean over the columns."""
        rows = {k: np.reshape(weights, (len(self.runs), -1)).mean(axis=1) for k, weights in self.weights.items()}
        return pd.DataFrame(rows.values(), columns=self.runs, index=pd.Index(rows, name="without fold"))

    def save(self, work: str | Path, run: str, task) -> Path:
        """Write the blend as a run: weights.json, then fold by fold its tables. Returns the run's folder.

        An older blend of that name is replaced. Raises ValueError where the name belongs to a trained run.
        """
        folder = run_folder(work, run)
        trained = any(p.is_dir() for p in folder.glob("*")) and not (folder / "weights.json").is_file()
        if trained or run in self.runs:
            raise ValueError(f"run={run!r} is a trained run, or one of the members: give the blend another name")
        weights = {k: dict(zip(self.runs, row, strict=True)) for k, row in self.weights.items()}
        told = {"plan": self.plan, "members": self.runs, "chosen": self.chosen, "weights": weights}
        told |= {"beside": self.features, "crosses": self.crosses, "cross_fitted": self.honest}
        told["tables"] = {name: RunRecord.open(work, name).hash_tables() for name in self.runs}
        write_json(folder / "weights.json", told)
        record = RunRecord(folder)
        for k in set(fold_folders(folder)) - set(self.folds):
            shutil.rmtree(folder / f"fold{k}")
        for k in self.folds:
            rows = (self.oof["fold"] == k).to_numpy()
            with replacing(folder / f"fold{k}") as part:
                ids, columns = self.oof["id"][rows].tolist(), task.columns
                seen, of_test = (table_metadata(record, k, test) for test in (False, True))
                write_predictions(part / "oof.parquet", ids, self.oof_array[rows], columns, fold=k, metadata=seen)
                write_predictions(part / "test.parquet", self.test_ids, self.tests[k], columns, metadata=of_test)
        return folder


def blend_runs(runs: Sequence[Run], labels: np.ndarray, plan: BlendPlan, features: RowFeatures | None = None) -> Blend:
    """Blend runs fold by fold: fold k's out-of-fold rows, and the fold-k test predictions, by what was fitted on the
    out-of-fold rows of the other folds. So the blend's out-of-fold score is an honest one.

    labels: of all rows of train. beside: what is known of rows beside predictions. With a single fold the test rows are
    predicted by what was fitted on all of it, and a fifth of its rows each by what was fitted on the other four.
    Raises ValueError for runs with different folds, and for one that learned from out-of-fold predictions.
    """
    inputs, features, first = (
        make_stack_input(runs, plan.kind, plan.metric, features),
        features or RowFeatures(),
        runs[0],
    )
    fitted, makers, parts = fit_blend(runs, np.asarray(labels)[first.rows], plan, inputs)
    oof, tests = predict_by_fold(fitted, inputs, parts), {}
    for k in first.folds:
        members = np.stack([run.tests[k] for run in runs]).astype(np.float64)
        rows = StackInput(members, plan.kind, plan.metric, None, features.test_documents, features.test_meta)
        made = makers[k].predict(rows) if len(rows) else members[0]  # files from elsewhere may have no rows of test
        tests[k] = made.astype(np.float32)
    table = first.oof.copy()
    table.iloc[:, 2:] = oof.astype(np.float32)
    crosses = makers is not fitted and not all(
        np.allclose(one.predict(inputs), makers[first.folds[0]].predict(inputs)) for one in fitted.values()
    )
    used = [name for name in ("documents", "meta") if getattr(features, name) is not None]
    names, honest = [run.name for run in runs], [run.name for run in runs if run.cross_fitted]
    return Blend(
        plan.method, None, first.columns, table, first.rows, tests, first.test_ids, plan=asdict(plan), runs=names,
        fitted=fitted, makers=makers, features=used, crosses=crosses, honest=honest,
    )  # fmt: skip


def fit_blend(
    runs: Sequence[Run], labels: np.ndarray, plan: BlendPlan, inputs: StackInput
) -> tuple[dict[int, Ensembler], dict[int, Ensembler], np.ndarray]:
    """What predicts the rows of each part, what predicts the test rows of each fold, and the part of each row.

    Parts are folds; of a single fold, where labels are used, five parts of its rows. labels: of the rows of `inputs`.
    """
    ensembler, folds = plan.ensembler(), runs[0].oof["fold"].to_numpy()
    if not ensembler.uses_labels:
        same = ensembler.fresh().fit(inputs, labels, folds)
        fitted = dict.fromkeys(runs[0].folds, same)
        return fitted, fitted, folds
    parts = divide(inputs, folds)
    fitted = fit_by_fold(ensembler, inputs, labels, parts)
    if len(runs[0].folds) > 1:
        return fitted, fitted, parts
    return fitted, {runs[0].folds[0]: ensembler.fresh().fit(inputs, labels, folds)}, parts


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
