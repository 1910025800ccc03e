"""The real client of Kaggle, talking to the small Kaggle of `server`: a home of its own, and a planted credential."""

import os
import tempfile

import numpy as np
import pandas as pd
import pytest
from folders import write_competition, write_kernel
from server import Server

from kagglekit.competition.infer import infer
from kagglekit.competition.task import Task
from kagglekit.files import read_json
from kagglekit.kaggle.bundle import pack
from kagglekit.runs.folder import Fitted, open_run, save_fold
from kagglekit.runs.tables import write_folds

INPUTS, KERNEL = "stubuser/small-inputs", "stubuser/small-base"
USER, KEY = "stubuser", "PLANTED0c2f46d1e8a97b35PLANTED99"
FUSE = "http://127.0.0.1:9"  # nothing listens there: what is not meant for this machine gets nowhere


@pytest.fixture
def server(tmp_path_factory):
    """A small Kaggle that knows the user and the planted key."""
    server = Server(tmp_path_factory.mktemp("kaggle"))
    server.users[USER] = KEY
    with server.running():
        yield server


@pytest.fixture
def environment(monkeypatch, tmp_path_factory, server):
    """The process's environment: an empty home, the planted credential, LOCALHOST, and the fuse."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("KAGGLE") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    told = {"HOME": home, "XDG_CONFIG_HOME": home / ".config", "KAGGLE_API_ENVIRONMENT": "LOCALHOST"}
    told |= {"KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY, "https_proxy": FUSE, "HTTPS_PROXY": FUSE}
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tmp")))
    kaggle_env = pytest.importorskip("kagglesdk.kaggle_env")
    table = getattr(kaggle_env, "_env_to_endpoint", None)
    assert table is not None and kaggle_env.KaggleEnv.LOCAL in table, (
        "kagglesdk has moved its table of addresses: find where it keeps them now, before a test talks to kaggle.com"
    )
    monkeypatch.setitem(table, kaggle_env.KaggleEnv.LOCAL, server.address)
    from kaggle.api.kaggle_api_extended import KaggleApi

    monkeypatch.setattr(KaggleApi, "args", ["--local"])
    return home


@pytest.fixture
def client(environment):
    """The real client, logged in at the small Kaggle."""
    from kagglekit.kaggle.client import connect

    return connect()


@pytest.fixture
def folders(tmp_path):
    """A data set of two files and a kernel that takes it, both without a fault, in WORK/kaggle."""
    place = tmp_path / "bbc" / "kaggle"
    (tmp_path / "one.bin").write_bytes(bytes(range(256)) * 800)
    (tmp_path / "two.txt").write_text("two")
    dataset = pack({"one.bin": tmp_path / "one.bin", "two.txt": tmp_path / "two.txt"}, place / "small-inputs", INPUTS)
    cells = ["print('nothing of kagglekit')"]
    return dataset, write_kernel(place / "small-base", KERNEL, cells, gpu="", competitions=["bbc"], datasets=[INPUTS])


@pytest.fixture
def work(tmp_path):
    """A work folder after 1_eda: 12 rows of train in three folds, 4 of test, two classes."""
    data, work, ids = tmp_path / "data", tmp_path / "bbc", [f"r{n}" for n in range(12)]
    write_competition(data, ids, ("bad", "good"), [f"t{n}" for n in range(4)], "bad")
    infer(data)[0].save(work)
    write_folds(work, ids, np.arange(12) // 2 % 3)
    return work


@pytest.fixture
def train_fold():
    """train_fold(work, fold, run, value, epochs): a finished fold of a run, whose model gives `value` to the truth."""

    def make(work, fold, run="base", value=0.8, epochs=2.0):
        task, table = Task(**read_json(work / "task.json")), pd.read_parquet(work / "folds.parquet")
        folder = open_run(work, run, {"backbone": "minilm", "start": "", "epochs": epochs})
        ours = np.flatnonzero(table["fold"] == fold)
        oof = np.where(np.stack([ours % 2 == 0, ours % 2 == 1], axis=1), value, 1 - value)
        fitted = Fitted(oof, np.tile([0.6, 0.4], (4, 1)), [{"step": 1, "loss": 0.7}], {})
        save_fold(folder, fold, fitted, table["id"].iloc[ours], [f"t{n}" for n in range(4)], task)
        return folder

    return make
