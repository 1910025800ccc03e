"""A small competition with folds and a tiny backbone, as a race finds it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_train
from kagglekit.runs.tables import write_folds
from tests.conftest import make_texts

ROWS, FOLDS = 90, 3
PNG = b"\x89PNG\r\n"


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A work folder, runs/small below the working directory: good and bad texts in three folds."""
    monkeypatch.chdir(tmp_path)
    texts, balance = make_texts(ROWS + 20, seed=1)
    labels = np.where(balance > 0, "good", "bad")
    data = tmp_path / "data"
    data.mkdir()
    train = pd.DataFrame({"id": range(ROWS), "text": texts[:ROWS], "label": labels[:ROWS]})
    test = pd.DataFrame({"id": range(ROWS, ROWS + 20), "text": texts[ROWS:]})
    train.to_csv(data / "train.csv", index=False)
    test.to_csv(data / "test.csv", index=False)
    test[["id"]].assign(label="bad").to_csv(data / "sample_submission.csv", index=False)
    task, _ = infer(data)
    place = tmp_path / "runs" / "small"
    task.save(place)
    table = read_train(task)
    assert len(encode_labels(task, table)) == ROWS
    write_folds(place, table["id"], np.arange(ROWS) % FOLDS)
    return place


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Pictures are made and not drawn, which takes most of the time."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **options: Path(file).write_bytes(PNG) if isinstance(
        file, (str, Path)) else file.write(PNG))  # fmt: skip


@pytest.fixture
def race(work, backbone, capsys):
    """race(*words): the command line of a race with a tiny backbone and a quarter of an epoch; the exit code, and what
    was printed."""
    from kagglekit.gains.race import main

    def run(*words, settings=("epochs=0.25", "max_length=16")):
        given = ["work=runs/small", "at_once=1", *words, "--", f"backbone={backbone}", *settings]
        return main(given), "".join(capsys.readouterr())

    return run


@pytest.fixture
def found(work):
    """found(): each table of a race -> what it holds, and what came out: race.csv without seconds."""

    def read():
        cells = {}
        for file in sorted((work / "race").glob("*/fold*/seed*/oof.parquet")):
            cells[str(file.relative_to(work))] = pd.read_parquet(file)
        shown = pd.read_csv(work / "race" / "race.csv").drop(columns="seconds a cell")
        return cells, shown

    return read


@pytest.fixture
def state(work):
    """state(): race.json."""
    return lambda: json.loads((work / "race" / "race.json").read_text())
