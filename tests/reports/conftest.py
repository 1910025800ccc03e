"""Made-up work folders: a small competition of any kind of task, with runs that know the labels more or less."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from kagglekit.competition.infer import infer
from kagglekit.competition.submission import make_submission, write_submission
from kagglekit.competition.task import encode_labels, load_task, read_sample, read_test, read_train
from kagglekit.ensembling.base_predictions import read_run_predictions
from kagglekit.ensembling.blend import blend_runs, make_stack_input
from kagglekit.ensembling.estimate import make_estimate
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.files import write_json
from kagglekit.runs.folder import Fitted, open_run, save_fold, score_run
from kagglekit.runs.tables import read_folds, read_run, write_folds
from tests.scoring.examples import make_labels

N, N_TEST, FOLDS = 60, 20, 3
PNG = b"\x89PNG\r\n"
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
    """made(kind, runs): a work folder `runs/bbc` below the working directory, see `make_work`."""
    monkeypatch.chdir(tmp_path)

    def make(kind="multiclass", runs=None, work="runs/bbc", **options):
        return make_work(tmp_path / work, kind, runs or {}, **options)

    return make


@pytest.fixture(scope="session")
def of_kind(tmp_path_factory):
    """of_kind(kind): a work folder with the runs "weak" and "good", their blend, its submission, and an executed 1_eda;
    made once. Whoever damages it restores it."""
    places = {}

    def make(kind):
        if kind not in places:
            work = places[kind] = tmp_path_factory.mktemp(kind) / "runs" / "bbc"
            make_work(work, kind, {"weak": (0.5, range(2), {"backbone": "tfidf"}), "good": 3.0}, n_folds=2)
            add_blend(work, "blend", ["weak", "good"])
            submit(work, "blend")
            add_marker(work, "1_eda", data=str(work / "data"), seed=3)
            write_executed(work, words("## Labels"), cell("1", {"output_type": "stream", "text": "shown"}))
        return places[kind]

    return make


@pytest.fixture
def damaged(of_kind, monkeypatch):
    """damaged(file): the work folder of classes with one file garbled, restored afterwards; the working directory is
    that of its runs/."""
    work, kept = of_kind("multiclass"), {}
    monkeypatch.chdir(work.parents[1])

    def damage(file, content="garbled"):
        kept[work / file] = (work / file).read_bytes() if (work / file).is_file() else None
        (work / file).write_text(content) if content is not None else (work / file).unlink()
        return work

    yield damage
    for path, content in kept.items():
        path.unlink(missing_ok=True) if content is None else path.write_bytes(content)


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Pictures are made and not drawn, which takes most of the time; but where a test asks for `drawn`."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(Figure, "savefig", lambda self, file, **options: file.write(PNG))


@pytest.fixture
def drawn():
    """Pictures are drawn."""


def make_work(work, kind, runs, n_folds=FOLDS, **options):
    """A task, its folds, and runs: name -> how well it knows the labels, or (skill, finished folds, settings)."""
    data = make_competition(work, kind, **options)
    task, _ = infer(data, kind=kind)
    task.save(work)
    train = read_train(task)
    labels = encode_labels(task, train)
    write_folds(work, train["id"], np.arange(N) % n_folds)
    for name, about in runs.items():
        skill, folds, recipe = about if isinstance(about, tuple) else (about, range(n_folds), {})
        add_run(work, name, labels, skill, folds, recipe)
    return work


def fake_run(work, name, score=None, folds=range(3), error=0.01, recipe=None, **more):
    """What a run's JSON files say, without its tables."""
    count = len(list(work.glob("*/params.json")))
    params = {"recipe": {"backbone": "minilm", "seed": 0, **(recipe or {})}, "inputs": {}}
    write_json(work / name / "params.json", params)
    os.utime(work / name / "params.json", (1e9 + count, 1e9 + count))
    if score is not None:
        scores = {
            "metric": "accuracy",
            "score": score,
            "standard_error": error,
            "folds": dict.fromkeys(map(str, folds), score),
        }
        write_json(work / name / "score.json", scores | more)


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


def submit(work, name):
    """What 5_submit writes."""
    task = load_task(work)
    train, test, sample = read_train(task), read_test(task), read_sample(task)
    result = read_run(work, name, task, read_folds(work, train["id"]), test["id"])
    write_submission(make_submission(task, sample, test["id"], result.test_mean), work / "submission.csv", task.header)
    write_json(work / "submission.json", {"run": name, "metric": task.metric, "true_score": 0.77, "full": ""})


def write_executed(work, *cells):
    """An executed 1_eda of these cells."""
    path = work / "notebooks" / "1_eda.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


def cell(source, *outputs):
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": list(outputs)}


def words(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def add_marker(work, stem, seconds=72.0, minute=0, **parameters):
    """What the runner writes when a notebook is done."""
    marker = {"parameters": {"work": str(work), **parameters}, "outputs": {}, "seconds": seconds, "versions": {}}
    write_json(work / f"notebooks/{stem}.done.json", marker | {"finished_at": f"2001-01-01T00:{minute:02}:00+00:00"})
