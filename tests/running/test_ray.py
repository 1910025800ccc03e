"""Folds on a real Ray cluster of two nodes, one of which dies. Without Ray these are skipped: `pip install ray`."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from kagglekit.files import fold_folders, read_json
from kagglekit.run import main
from kagglekit.running.on_ray.cluster import CellFailed, Share
from kagglekit.running.on_ray.connect import connect
from kagglekit.running.on_ray.storage import Storage

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

KNOBS = ["epochs=60", "max_length=24", "batch_size=8", "learning_rate=0.001", "checkpoint_every=0.3"]
ONE = Share(cores=1, gpus=0.0)
CLIENT = 25000 + os.getpid() % 2000


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A home folder, and short paths for Ray's sockets: nothing is written into those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where nodes find this file
        yield tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def cluster(place):
    """Two nodes of one core each; the one that the driver talks to has a client server."""
    both = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "ray_client_server_port": CLIENT})
    both.second = both.add_node(num_cpus=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", both.address)
        yield both
    ray.shutdown()
    both.shutdown()


def write_in(cell, shared, report):
    """What one cell does to what all of them share, by torch, which does not ask whether it may."""
    report(f"cell {cell}")
    total = torch.from_numpy(shared["array"]).add_(1).sum().item() + shared["table"]["x"].sum()
    shared["table"].loc[0, "x"] = 100.0
    return total, os.getpid(), torch.get_num_threads(), os.environ["CUDA_VISIBLE_DEVICES"]


def test_a_cell_cannot_change_what_the_next_one_gets(cluster):
    shared = {"array": np.zeros(100_000, dtype=np.float32), "table": pd.DataFrame({"x": [1.0, 2.0]})}
    seen = {}
    with connect("ray") as there:
        found = dict(there.map_cells(write_in, range(6), ONE, shared, watch=seen.update))
        assert len(there.nodes()) == 2 and there.at_once(ONE) == 2
    assert {total for total, *_ in found.values()} == {100_003.0}
    assert len({process for _, process, *_ in found.values()}) < 6  # some came after another in one process
    assert {(threads, gpus) for *_, threads, gpus in found.values()} == {(1, "")}


def leave(cell, shared, report):
    match cell:
        case "exit":
            raise SystemExit(0)
        case "wrong":
            raise ValueError("no such column")
        case "long":
            for _ in range(600):
                time.sleep(0.1)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
    return cell


def test_what_a_cell_raises_is_an_error_with_its_words_and_ends_the_others(cluster, capfd):
    messages = {
        "exit": r"exit on .*: it left by sys\.exit\(0\)",
        "wrong": "wrong on .*: no such column",
        "die": "die: ",
    }
    with connect("ray") as there:
        for cell, message in messages.items():
            lost, began = [], time.monotonic()
            with pytest.raises(CellFailed, match=message):
                dict(there.map_cells(leave, ["long", cell], ONE, lost=lambda *what, lost=lost: lost.append(what[0])))
            assert lost == (["die", "die"] if cell == "die" else []) and time.monotonic() - began < 40
    assert capfd.readouterr().out == ""  # Ray says a paragraph for each process that dies


def test_by_the_client_of_another_machine_it_is_the_same_and_the_limit_holds(cluster):
    with connect(f"ray://127.0.0.1:{CLIENT}") as there:
        assert dict(there.map_cells(leave, ["a", "b"], ONE)) == {"a": "a", "b": "b"}
        with pytest.raises(CellFailed, match="the limit") as failed:
            dict(there.map_cells(leave, ["long"], ONE, end=time.monotonic() + 1))
        assert failed.value.code == 124
        with pytest.raises(ValueError, match="gpus=1: no node of the cluster has a GPU: say gpus=0"):
            there.share(gpus=1)
        with pytest.raises(ValueError, match="cores=3: no node of the cluster has so many, the most is 1"):
            there.share(cores=3)
        assert there.share() == ONE


@pytest.fixture(scope="module")
def task(place, backbone, run_here):
    """A competition with two folds, and its run as this machine trains it."""
    from tests.conftest import make_texts

    data = place / "data"
    data.mkdir()
    texts, balance = make_texts(60)
    train = pd.DataFrame({"id": range(60), "text": texts, "label": np.where(balance > 0, "yes", "no")})
    test = pd.DataFrame({"id": range(100, 112), "text": make_texts(12, seed=1)[0]})
    train.to_csv(data / "train.csv", index=False)
    test.to_csv(data / "test.csv", index=False)
    test[["id"]].assign(label="no").to_csv(data / "sample_submission.csv", index=False)
    extra = train.head(8).assign(text=train["text"].head(8) + " end")
    extra.to_csv(place / "more.csv", index=False)
    given = [f"backbone={backbone}", f"extra={place / 'more.csv'}", *KNOBS]
    for work in ("here", "there", "stopped"):
        run_here("1_eda", data=str(data), work=str(place / work), n_folds=2)
    assert main(["3_train", f"work={place / 'here'}", *given]) == 0
    return given


def kept(storage):
    """The states in a storage: fold and name."""
    return [f"{file.parent.name}/{file.name}" for file in sorted(Path(storage).glob("*/fold*/*.json"))]


def leftovers(work):
    """The command lines of processes that still train in the tasks of a work folder."""
    lines = [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]
    return [line for line in lines if f"work=runs/{work}" in line]


def check_same(first, second):
    """Both runs are equal bit for bit, in all but what it cost."""
    names = sorted(file.relative_to(first) for file in first.rglob("*") if file.is_file())
    assert names == sorted(file.relative_to(second) for file in second.rglob("*") if file.is_file())
    for name in names:
        if name.name == "cost.json":  # how long it took
            continue
        if name.name == "params.json":
            assert read_json(first / name) == read_json(second / name)
        else:
            assert (first / name).read_bytes() == (second / name).read_bytes(), name


def when_kept(storage, folds, action):
    """Do something as soon as so many folds have a checkpoint in the storage."""

    def wait():
        end = time.monotonic() + 120
        while time.monotonic() < end and len({name.split("/")[0] for name in kept(storage)}) < folds:
            time.sleep(0.05)
        action()

    threading.Thread(target=wait, daemon=True).start()


def test_a_fold_that_fails_says_why_with_the_paths_of_here(cluster, task, place, backbone, capfd):
    broken = place / "broken"
    shutil.copytree(backbone, broken)
    (broken / "model.safetensors").write_text("garbage")
    given = [text for text in task if not text.startswith("backbone=")]
    line = ["3_train", f"work={place / 'stopped'}", "run=bad", f"backbone={broken}", *given]
    assert main([*line, "on=ray", "cores=1", "folds=0"]) == 1
    printed = capfd.readouterr().err
    copy = place / "stopped/notebooks/3_train.bad.fold0.failed.ipynb"
    assert f"{broken}/model.safetensors is damaged" in printed and str(copy) in printed and copy.is_file()


def test_an_interrupt_stops_all_and_the_same_command_goes_on(cluster, task, place, capfd):
    storage = place / "stopped storage"
    line = ["3_train", f"work={place / 'stopped'}", *task, "on=ray", "cores=1", f"storage={storage}", "folds=0"]
    trained = []

    def interrupt():
        trained.extend(leftovers("stopped"))
        signal.raise_signal(signal.SIGINT)

    when_kept(storage, 1, interrupt)
    assert main(line) == 130 and trained
    assert "the same command goes on from there" in capfd.readouterr().err
    assert leftovers("stopped") == [] and kept(storage) and not fold_folders(place / "stopped/base")
    assert main(line) == 0
    assert "from a checkpoint in the storage" in capfd.readouterr().out and kept(storage) == []
    check_same(place / "here/base/fold0", place / "stopped/base/fold0")


def test_a_fold_whose_node_dies_is_trained_again_elsewhere_bit_for_bit(cluster, task, place, capfd):
    storage = place / "storage"
    line = ["3_train", f"work={place / 'there'}", *task, "on=ray", "cores=1", f"storage={storage}"]
    when_kept(storage, 2, lambda: cluster.remove_node(cluster.second, allow_graceful=False))
    assert main(line) == 0
    printed = capfd.readouterr().out
    assert "  is trained again on another node: " in printed and "from a checkpoint in the storage" in printed
    check_same(place / "here/base", place / "there/base")
    assert kept(storage) == [] and Storage(str(storage), "x").load("fold0", place / "none") == ("", [])
