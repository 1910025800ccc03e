"""A race on a real Ray cluster of two nodes, one of which dies. Without Ray these are skipped: `pip install ray`."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from kagglekit.files import read_json
from kagglekit.gains import ray_cells
from kagglekit.gains.race import main
from kagglekit.gains.standings import Cell

WRONG = [
    (["on=tcp://head"], "on='tcp://head' names no cluster"),
    (["gpus=1"], "gpus= goes with a Ray cluster: say on=ray"),
    (["on=ray", "cores=0"], "cores=0 is out of range"),
    (["on=ray", "storage=s3://b"], "storage= is for the folds of 3_train"),
    (["on=ray", "at_once=2"], "at_once= is for this machine"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=lambda value: " ".join(value) if type(value) is list else "")
def test_what_is_wrong_is_one_sentence_before_anything_starts(work, words, message, capsys):
    assert main(["work=runs/small", *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert not (work / "race").exists()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes of one core each; nothing is written into the user's folders."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        both = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        both.second = both.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", both.address)
        yield both
        ray.shutdown()
        both.shutdown()


@pytest.fixture
def race_there(work, backbone, capsys):
    """race_there(*words): as `race`, on the cluster; also with another backbone."""

    def run(*words, settings=("epochs=0.25", "max_length=16"), backbone=backbone):
        code = main(["work=runs/small", *words, "on=ray", "--", f"backbone={backbone}", *settings])
        return code, "".join(capsys.readouterr())

    return run


def test_tables_and_verdict_are_those_of_this_machine(cluster, race, race_there, found, work, tmp_path):
    words = ["recipes=tfidf,frozen,rdrop", "seeds=1"]
    assert race(*words)[0] == 0
    here = found()
    assert len(here[0]) >= 8
    os.rename(work / "race", tmp_path / "here")
    code, said = race_there(*words)
    assert code == 0 and "on ray, 2 nodes: 1 core a cell, 2 at once" in said and "CAUTION" not in said
    there = found()
    assert here[0].keys() == there[0].keys()
    assert all(here[0][name].equals(there[0][name]) for name in here[0])
    assert here[1].equals(there[1])


def test_a_recipe_that_fails_says_why_and_a_base_ends_the_race(cluster, race_there, work, backbone, tmp_path):
    broken = tmp_path / "other" / Path(backbone).name  # as the base is called
    shutil.copytree(backbone, broken)
    (broken / "model.safetensors").write_text("garbage")
    code, said = race_there(
        f'recipes={{"bad": {{"backbone": "{broken}"}}, "tfidf": {{"backbone": "tfidf"}}}}', "seeds=1"
    )
    assert code == 0
    assert f"left out: bad: {broken}/model.safetensors is damaged" in " ".join(said.split())
    code, said = race_there("recipes=tfidf", "seeds=1", backbone=broken)
    assert code == 2 and f"the base cannot be trained: {broken}/model.safetensors is damaged" in said


def when_training(action):
    """Do something as soon as both nodes train."""

    def wait():
        end = time.monotonic() + 90
        while time.monotonic() < end and len(tasks()) < 2:
            time.sleep(0.05)
        action()

    threading.Thread(target=wait, daemon=True).start()


def tasks():
    """The processes that train a cell now."""
    return [one for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [""])[0] == "ray::work"]


LONG = ("epochs=20", "max_length=16", "batch_size=4")


def test_an_interrupt_stops_all_and_a_cell_whose_node_dies_is_trained_again(cluster, race_there, work, capsys):
    words = ['recipes={"a": {"seed": 7}, "b": {"seed": 8}}', "seeds=1", "folds=0", "budget=2h"]
    when_training(lambda: signal.raise_signal(signal.SIGINT))
    code, said = race_there(*words, settings=LONG)
    assert code == 130 and "the same command goes on from there" in said and tasks() == []
    kept = list((work / "race").glob("*/fold*/seed*/oof.parquet"))
    assert len(kept) == 1  # the base, which is trained alone
    when_training(lambda: cluster.remove_node(cluster.second, allow_graceful=False))
    code, said = race_there(*words, settings=LONG)
    assert code == 0 and " is trained again on another node: " in " ".join(said.split())
    assert read_json(work / "race" / "race.json")["finished"]


def test_files_of_one_name_from_two_folders_have_a_home_each(tmp_path):
    (tmp_path / "scratch").mkdir()
    for name in ("a/x", "b/x", "scratch/task", "scratch/same"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("t")
    scratch = tmp_path / "scratch"
    there = {"inputs/x": ray_cells._identify(tmp_path / "a/x", scratch)}
    assert not ray_cells._clash(there, {"inputs/x": tmp_path / "a/x", "inputs/y": tmp_path / "b/x"}, scratch)
    assert ray_cells._clash(there, {"inputs/x": tmp_path / "b/x"}, scratch)
    assert str(Cell("a", 1, 2)) == str(ray_cells.Task(Cell("a", 1, 2), None, "a", (1,)))
