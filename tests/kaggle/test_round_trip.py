"""The whole way: the default competition, built, linted, pushed, run from what was pushed, pulled, blended, submitted.

Kaggle is the small one of `server`; the client is the real one, the kernels are the real notebooks, and they run
without a network on what the server received.
"""

import builtins
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition.infer import infer
from kagglekit.competition.task import read_test, read_train
from kagglekit.files import read_json
from kagglekit.kaggle.__main__ import main as kaggle
from kagglekit.kaggle.dry_run import dry_run
from kagglekit.learners.tfidf import Baseline
from kagglekit.runs.folder import open_run, save_fold
from kagglekit.runs.tables import write_folds
from kagglekit.samples import FILES, write_sample

OWNER, COMPETITION = "stubuser", "bbc-news"
TRAINED = [f"{OWNER}/articles-small-fold{fold}" for fold in (0, 1)]
ASKED = f"{OWNER}/articles-both-submit"
SMALL = ["start=", "max_length=24", "epochs=1", "batch_size=8", "learning_rate=0.01"]


def test_from_home_to_kaggle_and_back(server, environment, backbone, run_here, tmp_path, monkeypatch):
    data, work = write_sample("bbc", tmp_path / "data", rows=60), tmp_path / "runs" / "articles"
    hidden = hide(data, tmp_path / "hidden")
    server.competitions[COMPETITION] = (data, lambda file: f"{len(pd.read_csv(file)) / 1000:.3f}")
    server.states, server.run = [], lambda folder, output: run_there(server, folder, output, data, hidden)
    begin(work, data)
    shelf, attached = work / "kaggle", ["--cpu", "--owner", OWNER, "--competition", COMPETITION]

    # the library, and two kernels that train a fold each
    tiny = shutil.copytree(backbone, tmp_path / "tiny")
    assert kaggle(["wheels", "--owner", OWNER, "--bare", "--to", str(work.parent / "kaggle")]) == 0
    build = ["build", "3_train", f"work={work}", "run=small", f"backbone={tiny}", *SMALL, "--each-fold"]
    assert kaggle([*build, *attached]) == 0
    folders = [*(work.parent / "kaggle").glob("kagglekit-wheels"), *shelf.glob("articles-small-*")]
    assert len(folders) == 4 and kaggle(["lint", *map(str, folders)]) == 0
    assert kaggle(["push", *map(str, folders), "--wait"]) == 0
    sent = read_json(server.kernel_folder(TRAINED[0]) / "kernel-metadata.json")
    assert sent["enable_internet"] is False and sent["competition_sources"] == [COMPETITION]
    assert sent["dataset_sources"] == [f"{OWNER}/kagglekit-wheels/1", f"{OWNER}/articles-small-inputs/1"]

    # their folds come home, and are blended with the baseline
    assert kaggle(["pull", *TRAINED, "--work", str(work)]) == 0
    assert set(read_json(work / "small" / "params.json")["receipts"]) == {"0", "1"}
    monkeypatch.setattr(builtins, "display", print, raising=False)
    run_here("4_ensemble", work=str(work), run="both", method="mean", thresholds="")
    assert read_json(work / "both" / "weights.json")["members"] == ["small", "tfidf"]
    run_here("5_submit", work=str(work), run="both")
    assert kaggle(["submit", str(work), "--competition", COMPETITION, "--message", "a file"]) == 0

    # a code competition: the kernel predicts a test that nobody has seen at home
    build = ["build", "5_submit", f"work={work}", "run=both", "predict=True", "--code-competition"]
    assert kaggle([*build, *attached]) == 0
    assert kaggle(["push", *map(str, shelf.glob("articles-both-*")), "--wait"]) == 0
    session = server.sessions[ASKED][-1]
    assert "golden rows of both: scored as at home, by 2 of 2 models" in session.log
    told = pd.read_csv(session.output / "submission.csv", dtype=str)
    assert told["ArticleId"].tolist() == [f"9{number}" for number in range(12)]
    assert set(told["Category"]) <= set(read_json(work / "task.json")["classes"])
    assert kaggle(["submit", ASKED, "--version", "1", "--competition", COMPETITION, "--message", "a kernel"]) == 0
    assert [sent["description"] for sent in server.submissions[COMPETITION]] == ["a file", "a kernel"]


def begin(work: Path, data: Path) -> None:
    """The work folder as 1_eda and 3_train with backbone=tfidf leave it."""
    task, _ = infer(data)
    train, test = read_train(task), read_test(task)
    folds, learner = np.arange(len(train)) % 2, Baseline(task, train, test)
    task.save(work)
    write_folds(work, train["id"], folds)
    folder = open_run(work, "tfidf", {"seed": 0, "backbone": "tfidf", "start": "", "clean": []})
    for fold in (0, 1):
        ours, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        fitted = learner.fit(ours, held_out, folder / f"fold{fold}", seed=fold)
        save_fold(folder, fold, fitted, train["id"].iloc[held_out], test["id"], task)


def hide(data: Path, place: Path) -> Path:
    """The competition as its scoring sees it: another test, of 12 rows, with ids that nobody knows."""
    shutil.copytree(data, place, ignore=shutil.ignore_patterns(".answers"))
    for name in FILES[1:]:
        table = pd.read_csv(data / name, dtype=str)[:12]
        table.assign(ArticleId=[f"9{number}" for number in range(12)]).to_csv(place / name, index=False)
    return place


def run_there(server, folder: Path, output: Path, data: Path, hidden: Path) -> str:
    """What Kaggle does with a version of a kernel: runs it on what was pushed, and keeps its output; the log.

    One that submits is run as its scoring does it, on the hidden test.
    """
    scored = "submit" in folder.parent.name
    wanted = read_json(folder / "kernel-metadata.json")["dataset_sources"]
    sources = {f"dataset:{ref.rpartition('/')[0]}": server.dataset_folder(ref) for ref in wanted}
    sources[f"competition:{COMPETITION}"] = hidden if scored else data
    result = dry_run(folder, sources, root=output.with_suffix(".root"), rerun=scored)
    assert result.ok, result
    shutil.copytree(result.output, output, dirs_exist_ok=True)
    return result.log
