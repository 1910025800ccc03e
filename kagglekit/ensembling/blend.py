"""Blends: several runs become one run, with honest predictions for each fold; runs that do not fit are refused here."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from kagglekit.ensembling.base_predictions import RowFeatures
from kagglekit.ensembling.crossfit import divide, fit_by_fold, fit_once, predict_by_fold
from kagglekit.ensembling.ensembler import Ensembler, StackInput
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.files import fold_folders, remove, replacing, run_folder, write_json
from kagglekit.runs.leaks import refuse_leak, table_metadata
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import Run, write_predictions
from kagglekit.scoring.metrics import CLASSES


@dataclass(frozen=True, eq=False)
class Blend(Run):
    """A run made of runs.

    plan: of the `BlendPlan`. runs: the names of its runs. fitted: fold -> the ensembler fitted without it. makers: fold
    -> the ensembler that predicts its test rows; not the same for a single fold, which is split in parts. features:
    which of documents and meta it reads. crosses: labels of a single fold were used for its test table. honest: the
    runs whose predictions are of epochs that other folds chose.
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
        """Fold -> a number per run, or one per run and column; without the folds that have no weights."""
        found = {k: one.weights_ for k, one in self.makers.items()}
        return {k: np.asarray(weights).tolist() for k, weights in found.items() if weights is not None}

    @property
    def chosen(self) -> dict[int, str]:
        """Fold -> the method that was chosen without it, or the only one there was."""
        return {k: getattr(one, "chosen_", self.plan["method"]) for k, one in self.makers.items()}

    def named(self, name: str) -> Self:
        """The same under another name."""
        return replace(self, name=name)

    def weight_table(self) -> pd.DataFrame:
        """The weights, a row per fold and a column per run; of weights per column, their mean over the columns."""
        rows = {k: np.reshape(weights, (len(self.runs), -1)).mean(axis=1) for k, weights in self.weights.items()}
        return pd.DataFrame(rows.values(), columns=self.runs, index=pd.Index(rows, name="without fold"))

    def save(self, work: str | Path, run: str, task) -> Path:
        """Write the blend as a run: weights.json, then fold by fold its tables. Returns the run's folder.

        An older blend of that name is replaced. Raises ValueError where the name belongs to a trained run.
        """
        folder = run_folder(work, run)
        trained = any(p.is_dir() for p in folder.glob("*")) and not (folder / "weights.json").is_file()
        if trained or run in self.runs:
            raise ValueError(f"run={run!r} is a trained run, or one of those blended: give the blend another name")
        weights = {k: dict(zip(self.runs, row, strict=True)) for k, row in self.weights.items()}
        facts = {"plan": self.plan, "members": self.runs, "chosen": self.chosen, "weights": weights}
        facts |= {"beside": self.features, "crosses": self.crosses, "cross_fitted": self.honest}
        facts["tables"] = {name: RunRecord.open(work, name).hash_tables() for name in self.runs}
        write_json(folder / "weights.json", facts)
        record = RunRecord(folder)
        for k in set(fold_folders(folder)) - set(self.folds):
            remove(folder / f"fold{k}")
        for k in self.folds:
            rows = (self.oof["fold"] == k).to_numpy()
            with replacing(folder / f"fold{k}") as part:
                ids, columns = self.oof["id"][rows].tolist(), task.columns
                oof, test = (table_metadata(record, k, test) for test in (False, True))
                write_predictions(part / "oof.parquet", ids, self.oof_array[rows], columns, fold=k, metadata=oof)
                write_predictions(part / "test.parquet", self.test_ids, self.tests[k], columns, metadata=test)
        return folder


def blend_runs(
    runs: Sequence[Run],
    labels: np.ndarray,
    plan: BlendPlan,
    features: RowFeatures | None = None,
    inputs: StackInput | None = None,
) -> Blend:
    """Blend runs fold by fold: fold k's out-of-fold rows and test predictions by what was fitted on the other folds.

    labels: of all rows of train. inputs: from `make_stack_input` with the same runs and features; what was fitted on
    them before is not fitted again. With a single fold the test rows are predicted by what was fitted on all of it, and
    a fifth of its rows each by what was fitted on the other four. Raises ValueError where `check_runs` does.
    """
    inputs, first = inputs or make_stack_input(runs, plan.kind, plan.metric, features), runs[0]
    features = features or RowFeatures()
    fitted, makers, parts = fit_blend(runs, np.asanyarray(labels)[first.rows], plan, inputs)
    oof, tests = predict_by_fold(fitted, inputs, parts), {}
    for k in first.folds:
        predictions = np.stack([run.tests[k] for run in runs]).astype(np.float64)
        rows = StackInput(predictions, plan.kind, plan.metric, None, features.test_documents, features.test_meta)
        made = makers[k].predict(rows) if len(rows) else predictions[0]  # imported files may have no test rows
        tests[k] = made.astype(np.float32)
    table = first.oof.copy()
    table.iloc[:, 2:] = oof.astype(np.float32)
    crosses = makers is not fitted and not all(
        np.allclose(one.predict(inputs), makers[first.folds[0]].predict(inputs)) for one in fitted.values()
    )
    return Blend(
        plan.method, None, first.columns, table, first.rows, tests, first.test_ids, plan=asdict(plan),
        runs=[run.name for run in runs], fitted=fitted, makers=makers, crosses=crosses,
        features=[name for name in ("documents", "meta") if getattr(features, name) is not None],
        honest=[run.name for run in runs if run.cross_fitted],
    )  # fmt: skip


def fit_blend(
    runs: Sequence[Run], labels: np.ndarray, plan: BlendPlan, inputs: StackInput
) -> tuple[dict[int, Ensembler], dict[int, Ensembler], np.ndarray]:
    """The ensemblers of each part and of the test rows of each fold, and the part of each row.

    Parts are folds; of a single fold, where labels are used, five parts of its rows. labels: of the rows of `inputs`.
    """
    ensembler, folds = plan.ensembler(), runs[0].oof["fold"].to_numpy()
    if not ensembler.uses_labels:
        fitted = dict.fromkeys(runs[0].folds, ensembler.fresh().fit(inputs, labels, folds))
        return fitted, fitted, folds
    parts = divide(inputs, folds)
    fitted = fit_by_fold(ensembler, inputs, labels, parts)
    if len(runs[0].folds) > 1:
        return fitted, fitted, parts
    return fitted, {runs[0].folds[0]: fit_once(ensembler, inputs, labels, folds)}, parts


def make_stack_input(
    runs: Sequence[Run], kind: str, metric: str = "", features: RowFeatures | None = None
) -> StackInput:
    """The out-of-fold rows of runs as the input of a second-level model. Raises ValueError where `check_runs` does."""
    check_runs(runs)
    features, rows = features or RowFeatures(), runs[0].rows
    more = {name: getattr(features, name) for name in ("groups", "documents", "meta")}
    more = {name: None if values is None else np.asarray(values)[rows] for name, values in more.items()}
    return StackInput(np.stack([run.oof_array for run in runs]).astype(np.float64), kind, metric, **more)


def check_runs(runs: Sequence[Run]) -> None:
    """Raise ValueError unless the runs can be blended: some, different, with the same finished folds and columns, and
    none that would leak, see `check_base_predictions`."""
    names = [run.name for run in runs]
    if not runs or len(set(names)) < len(names):
        raise ValueError(f"runs={names}: give at least one run, and each only once")
    everything = {k for run in runs for k in run.folds}
    lacking = [f"{r.name!r} lacks {sorted(everything - set(r.folds))}" for r in runs if everything - set(r.folds)]
    if lacking:
        raise ValueError(
            f"the runs have different finished folds: {'; '.join(lacking)}. Train these folds, or leave the run out"
        )
    if any(run.columns != runs[0].columns or not run.oof["id"].equals(runs[0].oof["id"]) for run in runs):
        raise ValueError(f"the runs {', '.join(names)} do not belong to the same task and folds")
    check_base_predictions(runs)


def check_base_predictions(runs: Sequence[Run]) -> None:
    """Raise ValueError when the score of a blend of these runs would leak, fitted or not: by a run that leaks, or by
    runs whose rows are in different folds."""
    reads: dict[Path, Any] = {}
    for run in runs:
        if run.folder is not None:
            refuse_leak(RunRecord(run.folder, reads), "runs", run.name)
        both = runs[0].oof[["id", "fold"]].merge(run.oof[["id", "fold"]], on="id")
        for row, ours, theirs in both[both["fold_x"] != both["fold_y"]].itertuples(index=False):
            raise ValueError(
                f"the runs {runs[0].name!r} and {run.name!r} have different folds: id {row!r} is in fold {ours} of the "
                f"one and {theirs} of the other. Train one of them again, on the folds of the other"
            )


def correlation(runs: Sequence[Run], labels: np.ndarray | None = None, kind: str = "multiclass") -> pd.DataFrame:
    """The Pearson correlation of the runs' out-of-fold predictions, all columns in one; (runs, runs).

    With the `labels` of all rows of train that of their errors (prediction minus truth), which says more: good runs
    agree on easy rows, and a blend gains where they err differently.
    """
    check_runs(runs)
    truth = 0.0
    if labels is not None:
        truth = np.asanyarray(labels)[runs[0].rows]
        truth = np.eye(len(runs[0].columns))[truth] if kind in CLASSES else truth.reshape(len(truth), -1)
    return pd.DataFrame({run.name: (run.oof_array - truth).ravel() for run in runs}).corr()
