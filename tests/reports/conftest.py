"""Made-up work folders: a small competition of any kind of task, with runs that know the labels more or less."""

import os

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, load_task, read_test, read_train
from kagglekit.ensembling.base_predictions import read_run_predictions
from kagglekit.ensembling.blend import blend_runs, make_stack_input
from kagglekit.ensembling.estimate import make_estimate
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.files import write_json
from kagglekit.runs.folder import Fitted, open_run, save_fold, score_run
from kagglekit.runs.tables import read_folds, read_run, write_folds
from tests.scoring.examples import make_labels

N, N_TEST, FOLDS = 60, 20, 3
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'  # what a text may hold
LABELS = {"multilabel": ["funny", "rude", "long"], "regression": ["score", "grade"]}


def make_competition(place, kind, targets=2):
    """train, test and sample submission, with a text that is HTML; returns the folder and the labels."""
    rng, data = np.random.default_rng(0), place / "data"
    labels = make_labels(kind, rng, N)
    labels = labels[:, :targets] if kind == "regression" else labels
    data.mkdir(parents=True)
    names = LABELS.get(kind, ["label"])[: 1 if labels.ndim == 1 else labels.shape[1]]
    columns = {"label": np.array([f"<b>{k}</b>" if k == 0 else f"c{k}" for k in labels])} if labels.ndim == 1 else {}
    if kind == "ordinal":
        columns = {"label": labels}
    for k, name in enumerate(names if labels.ndim == 2 else []):
        columns[name] = labels[:, k].astype(int) if kind == "multilabel" else labels[:, k]
    texts = [f"text {k} {EVIL if k % 2 == 0 else ''} says word{k % 5} and more" for k in range(N + N_TEST)]
    pd.DataFrame({"id": range(N), "text": texts[:N], **columns}).to_csv(data / "train.csv", index=False)
    test = pd.DataFrame({"id": range(100, 100 + N_TEST), "text": texts[N:]})
    test.to_csv(data / "test.csv", index=False)
    sample = test[["id"]].assign(**{name: columns[name][0] for name in names})
    sample.to_csv(data / "sample_submission.csv", index=False)
    return data


@pytest.fixture
def made(tmp_path, monkeypatch):
    """made(kind, runs): a work folder `runs/bbc` below the working directory, with 3 folds.

    runs: name -> how well it knows the labels, or (skill, finished folds, settings).
    """
    monkeypatch.chdir(tmp_path)

    def make(kind="multiclass", runs=None, work="runs/bbc", **options):
        data, work = make_competition(tmp_path / work, kind, **options), tmp_path / work
        task, _ = infer(data, kind=kind)
        task.save(work)
        train = read_train(task)
        labels, fold_of = encode_labels(task, train), np.arange(N) % FOLDS
        write_folds(work, train["id"], fold_of)
        for name, about in (runs or {}).items():
            skill, folds, recipe = about if isinstance(about, tuple) else (about, range(FOLDS), {})
            add_run(work, name, labels, skill, folds, recipe)
        return work

    return make


def add_run(work, name, labels, skill, folds, recipe):
    """A trained run whose predictions are made up; made after the others, as its files say."""
    task = load_task(work)
    train, test = read_train(task), read_test(task)
    rng, table = np.random.default_rng(len(name)), read_folds(work, train["id"])
    kind = "multiclass" if task.kind == "binary" else task.kind
    oof, tests = (make_made_up(task, kind, values, rng, skill) for values in (labels, labels[: len(test)]))
    folder = open_run(work, name, {"backbone": "minilm", "seed": 0, "epochs": 3.0, "tricks": {}, **recipe})
    for k in folds:
        rows = (table["fold"] == k).to_numpy()
        history = [{"step": step, "epoch": step / 10, "loss": 1 / step, "score": 0.5} for step in (1, 5, 10)]
        made = Fitted(oof[rows], tests, history if recipe.get("backbone") != "tfidf" else [])
        save_fold(folder, k, made, train["id"][rows].tolist(), test["id"].tolist(), task)
    if folds:
        result = read_run(work, name, task, table, test["id"])
        write_json(folder / "score.json", score_run(result, task, labels, table["group"].to_numpy()))
    count = len(list(work.glob("*/params.json")))
    os.utime(folder / "params.json", (1e9 + count, 1e9 + count))
    return folder


def make_made_up(task, kind, labels, rng, skill):
    """Predictions of one run: (rows, columns) of the task."""
    if task.classes and task.kind != "ordinal":
        noise = rng.normal(size=(len(labels), len(task.classes)))
        scores = np.exp(skill * np.eye(len(task.classes))[labels] + noise)
        return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    values = np.asarray(labels, dtype=np.float64).reshape(len(labels), -1)
    made = values + rng.normal(size=values.shape) / skill
    return (1 / (1 + np.exp(-4 * (made - 0.5))) if task.kind == "multilabel" else made).astype(np.float32)


def add_blend(work, name, runs, method="mean"):
    """What 4_ensemble writes."""
    data = read_run_predictions(work, runs)
    plan, groups = BlendPlan(data.task.kind, data.task.metric, method), data.features.groups
    inputs = make_stack_input(data.runs, data.task.kind, data.task.metric, data.features)
    blend = blend_runs(data.runs, data.labels, plan, data.features, inputs)
    result, folds = score_run(blend, data.task, data.labels, groups), data.runs[0].oof["fold"].to_numpy()
    truth = data.labels[data.runs[0].rows]
    estimate = make_estimate(plan.ensembler(), inputs, truth, folds, fitted=blend.fitted, draws=100)
    folder = blend.save(work, name, data.task)
    write_json(folder / "score.json", {**result, **estimate.as_dict(), "run": name, "members": blend.runs})
    return folder


def add_marker(work, stem, seconds=72.0, minute=0, **parameters):
    """What the runner writes when a notebook is done."""
    marker = {"parameters": {"work": str(work), **parameters}, "outputs": {}, "seconds": seconds, "versions": {}}
    write_json(work / f"notebooks/{stem}.done.json", marker | {"finished_at": f"2001-01-01T00:{minute:02}:00+00:00"})
