"""Kernels that are built for a tiny work folder, and what was packed for them."""

from pathlib import Path

import nbformat
import pandas as pd
from folders import write_competition

from kagglekit.competition.infer import infer
from kagglekit.competition.task import read_train
from kagglekit.files import hash_files, write_json
from kagglekit.files.parquet import write_parquet
from kagglekit.kaggle.build import build, parse_steps
from kagglekit.kaggle.bundle import read_bundle
from kagglekit.runs.tables import write_folds


def make_work():
    """A task with folds in runs/w, and the runs tfidf, mlm, base (of mlm, with models of two folds) and their blend."""
    write_competition(Path("far/bbc"), range(12), ("good", "bad"), range(12, 18), "bad")
    task, _ = infer("far/bbc")
    train = read_train(task)
    work = task.save("runs/w").parent
    write_folds(work, train["id"], [row % 3 for row in range(12)], range(12))
    recipes = {"tfidf": {"backbone": "tfidf"}, "mlm": {"backbone": "minilm"}}
    recipes["base"] = {"backbone": "minilm", "start": "mlm", "pattern": "a + b / {text}", "features": {}}
    for name, recipe in recipes.items():
        inputs = {"folds": hash_files([work / "folds.parquet"])} if name != "mlm" else {}
        write_json(work / name / "params.json", {"recipe": recipe, "inputs": inputs, "receipts": {}})
        for fold in (0, 1) if name != "mlm" else ():
            for table in ("oof", "test"):
                write_parquet(work / name / f"fold{fold}" / f"{table}.parquet", pd.DataFrame({"id": ["1"]}))
    write(work / "mlm/model/model.safetensors", work / "base/checkpoints/step.pt", work / "base/fold2/start/x.bin")
    for fold in (0, 1):
        write(
            work / f"base/fold{fold}/model/model.safetensors", work / f"base/fold{fold}/teachers/0/model/m.safetensors"
        )
    write(work / "base/suspects.csv", work / "base/learned/fold0.parquet", work / "mlm/suspects.csv")
    write(work / "base/.hidden", work / "base/golden.parquet", work / "blend/fold0/oof.parquet", work / "tokens/cache")
    write_json(work / "blend" / "weights.json", {"members": ["tfidf", "base"]})
    return work


def write(*files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)


def make(*texts, **options):
    steps = parse_steps(texts)
    return build(steps, "runs/w/kaggle", "me", **{"competition": "bbc-news", **options})


def read_notebook(kernel):
    (file,) = kernel.glob("*.ipynb")
    return nbformat.read(file, as_version=4)


def packed(built):
    return {record["path"].removeprefix("runs/w/") for record in read_bundle(built.bundle)["files"]}


def assert_no_local_path(built, place):
    """Neither the notebooks nor any text among what they read names a folder of this machine."""
    for folder in [*built.kernels, *([built.bundle] if built.bundle else [])]:
        for file in folder.iterdir():
            assert str(place).encode() not in file.read_bytes(), file
